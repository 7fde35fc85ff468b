"""Holds the program's text (ids, decoded text, rendered conversations) against transformers' AutoTokenizer, that of the Python
which runs this. Prints what differs and the counts; ends with 1 if anything differs, with 77 without transformers.

    .venv/bin/python scripts/oracle/check_text.py [--full] [--folders DIR ...] [--templates DIR ...] [--worker W | --module M]

Tokenizers: synthetic ones of every kind (synthetic_tokenizers.py), those of tests/data, and every model folder below --folders
(as they are downloaded), each on `--strings` hard strings with and without special tokens; around some vocabularies every
tokenizer_config.json, special_tokens_map.json and config.json of text_cases.folders (with transformers 5 those that it reads as
4.57 does, see text_cases.same_in_transformers5). Templates: tests/data's, and every .jinja
below --templates, each with all conversations of text_cases. --module asks src/text/hub_*.py themselves, without the program.
"""
import argparse
import collections
import gzip
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "critical", "TOKENIZERS_PARALLELISM": "false"}
try:
    import transformers
    from transformers import AutoTokenizer
except ImportError as missing:
    print(f"check_text: skipped: {missing}; ./test installs it")
    sys.exit(77)

import synthetic_tokenizers
import text_cases

ROOT = Path(__file__).resolve().parents[2]
FIVE = int(transformers.__version__.split(".")[0]) >= 5
transformers.logging.set_verbosity(50)
warnings.filterwarnings("ignore")


class Refused(Exception):
    """A file or a conversation that one side does not take."""


class Worker:
    """The program's side: JSON lines to a process and back (tests/tools/text_worker.cpp)."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "the worker ended"}')
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def open(self, directory):
        self.ask(open=str(directory))

    def encode(self, texts, special):
        return self.ask(encode=texts, special=special)["ids"]

    def decode(self, rows, skip):
        return self.ask(decode=rows, skip=skip)["texts"]

    def stream(self, rows, skip):
        return self.ask(stream=rows, skip=skip)["texts"]

    def template(self, directory, source):
        self.ask(template=str(directory), **({} if source is None else {"source": source}))

    def render(self, conversation):
        answer = self.ask(render=conversation)
        return answer["text"], [tuple(span) for span in answer["generated"]]


class Module:
    """The same by the modules that the program embeds."""

    def __init__(self, path):
        sys.path.insert(0, path)
        self.tokenizers = importlib.import_module("hub_tokenizers")
        self.templates_module = importlib.import_module("hub_templates")

    def open(self, directory):
        try:
            self.tokenizer = self.tokenizers.Tokenizer(str(directory))
        except ValueError as error:
            raise Refused(str(error)) from None

    def encode(self, texts, special):
        return [self.tokenizer.encode(text, special) for text in texts]

    def decode(self, rows, skip):
        return [self.tokenizer.decode(row, skip, True) for row in rows]

    def stream(self, rows, skip):
        return [self.tokenizer.decode(row, skip, False) for row in rows]

    def template(self, directory, source):
        self.templates = self.templates_module.Templates(str(directory), source, "template")

    def render(self, conversation):
        try:
            text, spans = self.templates.render(
                *(json.dumps(conversation.get(key)) for key in ("messages", "tools", "documents", "variables")),
                bool(conversation.get("add_generation_prompt")), bool(conversation.get("continue_final_message")))
        except ValueError as error:
            raise Refused(str(error)) from None
        except Exception as error:
            return f"{type(error).__name__} comes through: {error}", []
        return text, [tuple(span) for span in spans]


class Report:
    """Counts by kind; shows the first differences of each."""

    def __init__(self, show):
        self.show, self.counts, self.bad = show, collections.Counter(), collections.Counter()

    def add(self, kind, name, good, *details):
        self.counts[kind] += 1
        if good:
            return
        self.bad[kind] += 1
        if self.bad[kind] <= self.show:
            print(f"DIFFERS {kind}: {name}" + "".join(f"\n    {str(line)[:400]}" for line in details), flush=True)

    def finish(self):
        for kind, count in self.counts.items():
            print(f"{kind}: {count - self.bad[kind]} of {count} agree")
        return sum(self.bad.values())


def first_difference(texts, ours, theirs):
    for text, a, b in zip(texts, ours, theirs):
        if a != b:
            return f"{text[:200]!r}", f"ours   {a!r}", f"theirs {b!r}"
    return ()


def asked(work):
    """What transformers does, or Refused."""
    try:
        return work()
    except BaseException as error:  # panics of tokenizers are no Exceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise Refused(f"{type(error).__name__}: {error}") from None


def theirs_of(directory):
    return asked(lambda: AutoTokenizer.from_pretrained(directory))


def compare_tokenizer(report, name, ours, directory, strings, seed=1):
    """All four readings of one folder; returns what transformers made of it, None where it refuses it."""
    try:
        theirs = theirs_of(directory)
    except Refused as refusal:
        report.add("folders that transformers refuses", f"{name}: {refusal}", True)
        return None
    try:
        ours.open(directory)
    except Refused as refusal:
        report.add("tokenizer", name, False, f"refused: {refusal}")
        return theirs
    added = [str(token) for token in theirs.added_tokens_decoder.values()]
    texts = text_cases.hard_strings(seed, strings, added)
    bad = []
    try:
        for special in (False, True):
            expected = asked(lambda: [theirs.encode(text, add_special_tokens=special) for text in texts])
            found = ours.encode(texts, special)
            if found != expected:
                bad += [f"encode, special={special}: {sum(a != b for a, b in zip(found, expected))} of {len(texts)} differ",
                        *first_difference(texts, found, expected)]
        for skip in (False, True):
            for read in ("decode", "stream"):  # a stream tells what was written
                how = {"clean_up_tokenization_spaces": False} if read == "stream" else {}
                shown = [theirs.decode(row, skip_special_tokens=skip, **how) for row in expected]
                found = getattr(ours, read)(expected, skip)
                if found != shown:
                    bad += [f"{read}, skip={skip}: {sum(a != b for a, b in zip(found, shown))} of {len(texts)} differ",
                            *first_difference(texts, found, shown)]
    except Refused as refusal:
        bad.append(f"refused: {refusal}")
    report.add("tokenizer", name, not bad, *bad)
    return theirs


def committed_tokenizers():
    yield "demo", (ROOT / "data/demo/tokenizer.json").read_text(encoding="utf-8"), "<|endoftext|>", "<|endoftext|>", "the"
    for path in sorted((ROOT / "tests/data/tokenizers").glob("*.json.gz")):
        name = path.name.split(".")[0]
        end = "<｜end▁of▁sentence｜>" if name == "deepseek_v3" else "<|endoftext|>"
        yield name, gzip.decompress(path.read_bytes()).decode(), end.replace("end▁", "begin▁"), end, "the"


def check_tokenizers(report, ours, scratch, given):
    for name, make in synthetic_tokenizers.kinds().items():
        if given.only in name:
            # Of a pre-tokenizer that sets a space in front, 4.57 wants to be told so again.
            config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": name == "prefix space"}
            folder = text_cases.write_folder(scratch / name, make().to_str(), {"tokenizer_config.json": config})
            compare_tokenizer(report, name, ours, folder, given.strings)
    for name, text, bos, eos, _ in committed_tokenizers():
        if given.only in name:
            config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
            folder = text_cases.write_folder(scratch / name, text, {"tokenizer_config.json": config})
            compare_tokenizer(report, name, ours, folder, given.strings)
    for folder in model_folders(given.folders):
        if given.only in str(folder):
            compare_tokenizer(report, str(folder), ours, folder, given.strings)


def model_folders(roots):
    names = {"tokenizer.json", "tiktoken.model", "vocab.json"}
    for root in roots:
        yield from sorted({path.parent for path in Path(root).rglob("*") if path.name in names})


def check_variants(report, ours, scratch, given):
    bases = [(name, synthetic_tokenizers.kinds()[name]().to_str(), "<s>", "</s>", "the")
             for name in ("like llama3", "like llama2", *(("like gpt2", "like mistral", "like qwen", "unigram") if given.full else ()))]
    if given.full:
        bases += committed_tokenizers()
    for base, text, bos, eos, word in bases:
        size = 1 + max(json.loads(text)["model"]["vocab"].values()) if "unigram" not in base else len(json.loads(text)["model"]["vocab"])
        size = max([size, *(1 + t["id"] for t in json.loads(text)["added_tokens"])])
        for number, (name, files) in enumerate(text_cases.folders(bos, eos, word, size)):
            if FIVE and not text_cases.same_in_transformers5(base, name, files):
                continue
            name = f"{base}: {name}"
            if given.only in name:
                folder = text_cases.write_folder(scratch / f"{base} {number}", text, files)
                compare_tokenizer(report, name, ours, folder, 90)


def check_tiktoken(report, ours, scratch, given):
    """Against `tokenizers` on the same vocabulary: transformers reads these folders by code that they bring."""
    if given.only not in "like moonlight":
        return
    files = synthetic_tokenizers.tiktoken_files()
    folder = text_cases.write_folder(scratch / "like moonlight", files, {})
    reference = synthetic_tokenizers.tiktoken_as_fast(files)
    ours.open(folder)
    texts = text_cases.hard_strings(1, given.strings, list(synthetic_tokenizers.KIMI_SPECIAL.values()))
    expected = [reference.encode(text, add_special_tokens=False).ids for text in texts]
    for special in (False, True):
        found = ours.encode(texts, special)
        report.add("tiktoken.model", f"encode, special={special}", found == expected, *first_difference(texts, found, expected))
    for skip in (False, True):
        shown = [reference.decode(row, skip_special_tokens=skip) for row in expected]
        for read in ("decode", "stream"):
            found = getattr(ours, read)(expected, skip)
            report.add("tiktoken.model", f"{read}, skip={skip}", found == shown, *first_difference(texts, found, shown))


def rendered_by_transformers(tokenizer, source, conversation):
    """(text, spans in bytes or None), or Refused."""
    asked = dict(conversation)
    mask, variables = asked.pop("mask", False), asked.pop("variables", None) or {}
    try:
        text = tokenizer.apply_chat_template(asked.pop("messages"), chat_template=source, tokenize=False, **asked, **variables)
        spans = None
        if mask:
            spans = spans_by_transformers(tokenizer, source, conversation)
        return text, spans
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise Refused(f"{type(error).__name__}: {error}") from None


def spans_by_transformers(tokenizer, source, conversation):
    from transformers.utils.chat_template_utils import render_jinja_template
    (text,), (spans,) = render_jinja_template([conversation["messages"]], tools=conversation.get("tools"), chat_template=source,
                                              return_assistant_tokens_mask=True, **tokenizer.special_tokens_map)
    bytes_to = lambda index: len(text[:index].encode())
    return [(bytes_to(begin), bytes_to(end)) for begin, end in spans]


def check_templates(report, ours, scratch, given):
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    folder = text_cases.write_folder(scratch / "templates", synthetic_tokenizers.kinds()["like gpt2"]().to_str(), {"tokenizer_config.json": config})
    tokenizer = theirs_of(folder)
    entries = json.loads((ROOT / "tests/data/tokenizers/chat_templates.json").read_text(encoding="utf-8"))
    sources = [(entry["name"], entry["source"]) for entry in entries]
    sources += [(str(path), path.read_text(encoding="utf-8")) for root in given.templates for path in sorted(Path(root).rglob("*.jinja"))]
    conversations = json.loads(json.dumps(dict(text_cases.conversations())))  # none shares a message with another
    if FIVE:
        conversations = {name: text_cases.as_transformers5_has_them(asked) for name, asked in conversations.items()}
    for name, source in sources:
        if given.only not in name:
            continue
        try:
            ours.template(folder, source)
        except Refused as refusal:
            report.add("template", name, False, f"refused: {refusal}")
            continue
        for what, conversation in conversations.items():
            outcomes = []
            for render in (lambda: rendered_by_transformers(tokenizer, source, conversation), lambda: ours.render(conversation)):
                try:
                    outcomes.append(render())
                except Refused as refusal:
                    outcomes.append(refusal)
            (theirs, mine), title = outcomes, f"{name}, {what}"
            if FIVE and isinstance(theirs, Refused) and "not an accepted field" in str(theirs):
                continue  # 5 goes on with a message only in templates that name its key; 4.57 in all
            if isinstance(theirs, Refused) or isinstance(mine, Refused):
                same = isinstance(theirs, Refused) and isinstance(mine, Refused)
                report.add("rendering" if not same else "refusals of both", title, same, f"ours   {mine!r}", f"theirs {theirs!r}")
                continue
            same = theirs[0] == mine[0]
            at = next((i for i, (a, b) in enumerate(zip(*(x[0] for x in outcomes))) if a != b), 0)
            report.add("rendering", title, same, f"at {at}: ours   {mine[0][max(0, at - 60):at + 100]!r}", f"at {at}: theirs {theirs[0][max(0, at - 60):at + 100]!r}")
            if theirs[1] is not None:
                report.add("generation spans", title, theirs[1] == mine[1], f"ours   {mine[1]}", f"theirs {theirs[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="settings around the committed tokenizers too (minutes)")
    parser.add_argument("--strings", type=int, default=1000, help="hard strings a tokenizer (default: 1000)")
    parser.add_argument("--folders", nargs="*", default=[], help="directories with model folders somewhere below")
    parser.add_argument("--templates", nargs="*", default=[], help="directories with .jinja files somewhere below")
    parser.add_argument("--only", default="", help="names that hold this")
    parser.add_argument("--parts", default="tokenizers,variants,tiktoken,templates", help="comma-separated choice of the checks")
    parser.add_argument("--show", type=int, default=20, help="differences to show of each kind")
    parser.add_argument("--worker", default=ROOT / "build/tests/text_worker", help="the program that answers")
    parser.add_argument("--module", help="src/text, whose hub_*.py are asked instead of a program")
    given = parser.parse_args()
    report, parts = Report(given.show), given.parts.split(",")
    ours = Module(given.module) if given.module else Worker(given.worker)
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("tokenizers", "variants", "tiktoken", "templates"):
            if part in parts:
                globals()[f"check_{part}"](report, ours, Path(scratch), given)
    print(f"transformers {transformers.__version__}:")
    sys.exit(bool(report.finish()))


if __name__ == "__main__":
    main()
