"""Compares the tokenizer with Hugging Face's on random text: ids, and the text decoded from them.

    .venv/bin/pip install tokenizers==0.22.2
    .venv/bin/python scripts/oracle/check_tokenizer.py [--strings 200000] [--seed 1] [--quick]

Strings mix words, contractions, digits, white space of every kind, CJK, emoji, combining marks, added tokens and code
points drawn from all of Unicode; before them, every code point comes by itself and many behind other characters. Left out are
only code points without a character in the version of Unicode that Python knows: of those libraries may know different ones.
"""

import argparse
import gzip
import json
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

try:
    from tokenizers import Tokenizer
except ImportError as missing:
    print(f"check_tokenizer: skipped: {missing}; .venv/bin/pip install tokenizers==0.22.2")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
WORDS = """the of and don't WE'LL you've I'M it's they'd 'tis 'S 'ſ 'LL'd rock'n'roll naïve café Straße ﬁn I'll'
ΑΒΓ ςσ привет мир שלום مرحبا नमस्ते ภาษาไทย 한국어 テスト ひらがな 漢字 中文测试 龥龦 İı ǅ ꙮ ﷽ e\u0301 o\u0308\u0323 \u1100\u1161\u11a8
return x+=1; def f(x): #include <a.h> a_b-c http://a.b/?c=d&e 3.14159 1,000,000 0x1F ²³ ½ Ⅷ ١٢٣ １２３ 12345678""".split()
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", " " * 40, "\n" * 20]
EMOJI = ["😀", "👩‍💻", "👍🏽", "🇩🇪", "❤️", "☃", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©", "1️⃣"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("“”‘’«»…–—·、。！？（）「」€£¥§°±×÷←→∞≠")


def assigned(points):
    return [chr(point) for point in points if unicodedata.category(chr(point)) not in ("Cn", "Cs")]


class Writer:
    """Random strings for one tokenizer."""

    def __init__(self, seed, tokenizer):
        self.random = random.Random(seed)
        self.all = assigned(range(0x110000))
        self.low = assigned(range(0x3000))
        self.marks = [c for c in self.all if unicodedata.category(c)[0] == "M"]
        self.added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self.added += ["<|", "|>", "<｜", "｜>"] + [token[:-1] for token in self.added[:20]]

    def piece(self):
        pick = self.random.choice
        kind = self.random.randrange(12)
        if kind < 3:
            return pick(WORDS)
        if kind < 5:
            return pick(SPACES)
        if kind == 5:
            return pick(EMOJI)
        if kind == 6:
            return pick(PUNCTUATION) * self.random.randrange(1, 4)
        if kind == 7:
            return "".join(pick("0123456789") for _ in range(self.random.randrange(1, 9)))
        if kind == 8:
            return pick(self.low) + "".join(pick(self.marks) for _ in range(self.random.randrange(3)))
        if kind == 9:
            return "".join(pick(self.all) for _ in range(self.random.randrange(1, 4)))
        if kind == 10:
            return pick(self.added)
        return "".join(pick("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ'") for _ in range(self.random.randrange(1, 10)))

    def string(self):
        return "".join(self.piece() for _ in range(self.random.randrange(1, 12)))


class Worker:
    def __init__(self, program, tokenizer_json):
        self.process = subprocess.Popen([program, tokenizer_json], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def numbers(self, count):
        return struct.unpack(f"={count}I", self.process.stdout.read(4 * count))

    def __call__(self, text):
        raw = text.encode()
        self.process.stdin.write(struct.pack("=I", len(raw)) + raw)
        self.process.stdin.flush()
        ids = list(self.numbers(self.numbers(1)[0]))
        return ids, self.process.stdout.read(self.numbers(1)[0]).decode()


def tokenizer_files():
    """(name, text of tokenizer.json) of every tokenizer in the repository."""
    yield "demo", (ROOT / "data/demo/tokenizer.json").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests/data/tokenizers").glob("*.json.gz")):
        yield path.name.split(".")[0], gzip.decompress(path.read_bytes()).decode()


def variants(name, text):
    """The tokenizer itself and, of a small one, settings that no file at hand uses."""
    yield name, text
    if name != "demo":
        return
    file = json.loads(text)
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    first = file["model"]["vocab"].__len__()
    extra = [("<both>", {"lstrip": True, "rstrip": True}), ("word", {"single_word": True, "special": False}),
             ("ab", {"normalized": True}), ("abc", {"normalized": True, "special": False}), (" ", {"rstrip": True}),
             ("é", {"normalized": True, "special": False}), ("e\u0301x", {}), ("<left>", {"lstrip": True, "normalized": True})]
    for offset, (content, changes) in enumerate(extra):
        known = file["model"]["vocab"].get(content)
        file["added_tokens"].append({"id": first + offset if known is None else known, "content": content, **flags, **changes})
        first -= known is not None
    file["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": False},
        {"type": "Split", "pattern": {"String": "<|"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]}
    file["model"]["ignore_merges"] = True
    yield "demo, all settings", json.dumps(file)


def compare(name, text, arguments):
    theirs = Tokenizer.from_str(text)
    writer = Writer(arguments.seed, theirs)
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(text, encoding="utf-8")
        ours = Worker(arguments.worker, path)
        singles = writer.all + [a + b for a in ("a", "'", " ", "1") for b in writer.all[::7]]
        if arguments.quick:
            singles = singles[::20]
        strings = singles + [writer.string() for _ in range(2_000 if arguments.quick else arguments.strings)]
        for string in strings:
            ids = theirs.encode(string, add_special_tokens=False).ids
            expected = ids, theirs.decode(ids, skip_special_tokens=False)
            found = ours(string)
            if found != expected:
                differences += 1
                if differences <= arguments.show:
                    print(f"{name}: {string!r} ({' '.join(f'{ord(c):04X}' for c in string)})\n  ours   {found}\n  theirs {expected}")
    print(f"{name}: {len(strings)} strings, {differences} differences", flush=True)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=200_000, help="random ones a tokenizer")
    parser.add_argument("--quick", action="store_true", help="2,000 random strings, every 20th code point")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="differences to print")
    parser.add_argument("--only", help="the name of one tokenizer")
    parser.add_argument("--worker", default=ROOT / "build/tests/tokenize_worker", type=Path)
    arguments = parser.parse_args()
    differences = 0
    for file in tokenizer_files():
        for name, text in variants(*file):
            if arguments.only in (None, name):
                differences += compare(name, text, arguments)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
