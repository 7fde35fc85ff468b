"""Makes small tokenizers of every kind that model folders hold, trained on a few lines: no licence stands in their way.

    .venv/bin/python scripts/oracle/synthetic_tokenizers.py OUT      # OUT/KIND/tokenizer.json (or tiktoken.model)

Each is the shape of a family's real file (pre-tokenizer, normaliser, model, decoder, post-processor) with a tiny vocabulary, or
a setting that no file at hand uses. check_text.py compares them with transformers; the same seed gives the same files.
"""
import base64
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import text_cases

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from make_tokenizers import byte_characters, parts_of

BOS, EOS, WORD = "<s>", "</s>", "the"
SEQUENCE, SPLIT, LEVEL = pre_tokenizers.Sequence, pre_tokenizers.Split, pre_tokenizers.ByteLevel
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI_SPECIAL = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 3: "<|im_user|>", 4: "<|im_assistant|>", 10: "<|im_system|>", 11: "<|im_middle|>",
                254: "[UNK]", 255: "[PAD]"}


def corpus():
    """About 60 kB in several scripts."""
    pick = random.Random(7)
    words = [*text_cases.WORDS, *"the quick brown fox jumps over a lazy dog while it was raining in the town of Zürich".split()] * 3
    lines = [" ".join(pick.choices(words, k=12)) for _ in range(400)]
    return lines + text_cases.CODE * 5 + ["漢字 中文测试 日本語 " * 3, "привет мир " * 4, "  two  spaces\n\n", "12345 678"]


def bytes_split(regex, behavior="isolated"):
    return SEQUENCE([SPLIT(Regex(regex), behavior), LEVEL(add_prefix_space=False, use_regex=False)])


def byte_level(pre_tokenizer, normalizer=None, post=None, **model):
    """Byte-level BPE, decoded as such."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre_tokenizer, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[BOS, EOS], initial_alphabet=LEVEL.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = post or processors.ByteLevel(trim_offsets=False)
    return tokenizer


def pieces(normalizer, pre_tokenizer, decoder, fallback=True, **model):
    """SentencePiece's BPE as tokenizers holds it: characters, bytes where a character is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback, **model))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    special = ["<unk>", BOS, EOS] + ([f"<0x{b:02X}>" for b in range(256)] if fallback else [])
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=1100, special_tokens=special, limit_alphabet=120, show_progress=False))
    state = json.loads(tokenizer.to_str())  # bytes are ordinary tokens, as in real files
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoder
    return tokenizer


def llama(strip=True):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if strip else [])
    return decoders.Sequence(steps)


def around(front, back, tokenizer):
    """The same with a template as post-processor."""
    single = [*front, "$A", *back]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=single + [f"{t}:1" if t != "$A" else "$B:1" for t in single],
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in {*front, *back}])
    return tokenizer


def unigram(byte_fallback=False):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [BOS, EOS, "<unk>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=800, special_tokens=special, unk_token="<unk>", show_progress=False))
    state = json.loads(tokenizer.to_str())
    state["model"]["byte_fallback"] = byte_fallback
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = llama() if byte_fallback else decoders.Metaspace()
    return around([], [EOS], tokenizer)


def word_piece(normalizer, pre_tokenizer, cleanup=True):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=[BOS, EOS, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    return around(["[CLS]"], ["[SEP]"], tokenizer)


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(corpus(), trainers.WordLevelTrainer(special_tokens=[BOS, EOS, "<unk>"], show_progress=False))
    return tokenizer


def suffixes():
    """CLIP's: words end with a mark."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=900, special_tokens=[BOS, EOS, "<unk>"], end_of_word_suffix="</w>", show_progress=False))
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def flags():
    """Added tokens with every flag; truncation and padding that nothing may apply."""
    tokenizer = byte_level(LEVEL(add_prefix_space=False), normalizers.NFC())
    tokenizer.add_tokens([
        AddedToken("<both>", lstrip=True, rstrip=True, special=True), AddedToken("word", single_word=True), AddedToken("ab", special=True),
        AddedToken("abc", normalized=True), AddedToken(" ", rstrip=True, normalized=False), AddedToken("é", normalized=True),
        AddedToken("e\u0301x", normalized=False, special=True), AddedToken("<left>", lstrip=True, normalized=True, special=True)])
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=8, pad_id=1, pad_token=EOS)
    return around([BOS], [EOS], tokenizer)


def behaviours():
    """Byte-level BPE after every split that a file can ask for."""
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        yield f"split {behavior}", bytes_split(r"[\s\p{P}]", behavior)
        yield f"punctuation {behavior}", SEQUENCE([pre_tokenizers.Punctuation(behavior), LEVEL(add_prefix_space=False, use_regex=False)])
    level = LEVEL(add_prefix_space=False, use_regex=False)
    yield "split inverted", SEQUENCE([SPLIT(Regex(r"\p{L}+|\p{N}"), "removed", invert=True), level])
    yield "split text", SEQUENCE([SPLIT(" ", "merged_with_next"), level])
    for name, regex in {"word boundary": r"\b", "anchors": r"^\s+|\s+$", "any case": r"(?i)the|(?i:ABC)", "posix": r"[[:alpha:]]+|[[:punct:]]",
                        "intersection": r"[\p{L}&&[^\p{Han}]]+|\p{Han}+", "look behind": r"(?<=\p{L})\p{N}|(?<!\s)\s", "possessive": r"\p{L}++|\s*+\n",
                        "atomic": r"(?>\p{Lu}+)\p{Ll}*", "absent of a class": r"[^\p{Latin}\s]+", "unicode": r"[一-龥\u0800-一\uac00-\ud7ff]+|[\x{0400}-\x{04ff}]+"}.items():
        yield f"regex {name}", bytes_split(regex)
    yield "digits together", SEQUENCE([pre_tokenizers.Digits(individual_digits=False), level])
    yield "white space", SEQUENCE([pre_tokenizers.WhitespaceSplit(), level])
    yield "delimiter", SEQUENCE([pre_tokenizers.CharDelimiterSplit("e"), level])
    yield "scripts", SEQUENCE([pre_tokenizers.UnicodeScripts(), level])
    yield "prefix space", LEVEL(add_prefix_space=True)
    yield "bert", SEQUENCE([pre_tokenizers.BertPreTokenizer(), level])


def kinds():
    """name -> what makes the tokenizer."""
    v2 = SEQUENCE([SPLIT(Regex("[\r\n]"), "isolated"), SPLIT(Regex(r"\s?\p{L}+"), "isolated"), SPLIT(Regex(r"\s?\p{P}+"), "isolated"),
                   SPLIT(Regex(r"\s+$"), "isolated"), SPLIT(Regex("[一-龥ࠀ-一가-퟿]+"), "isolated"), pre_tokenizers.Digits(individual_digits=True),
                   LEVEL(add_prefix_space=False, use_regex=False)])
    level, prepend = LEVEL(add_prefix_space=False), normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    meta = lambda scheme, split: pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=split)
    made = {
        "like deepseek_v2": lambda: byte_level(v2),
        "like gpt2": lambda: byte_level(level),
        "like qwen": lambda: byte_level(bytes_split(GPT4.replace("{1,3}", "")), normalizers.NFC()),
        "like llama3": lambda: around([BOS], [], byte_level(bytes_split(GPT4), ignore_merges=True)),
        "like llama2": lambda: around([BOS], [], pieces(prepend, None, llama())),
        "like mistral": lambda: around([BOS], [], pieces(None, meta("first", False), llama())),
        "metaspace, always": lambda: pieces(None, meta("always", True), decoders.Metaspace()),
        "metaspace, never": lambda: pieces(None, meta("never", True), decoders.Metaspace(prepend_scheme="never")),
        "like gemma": lambda: around([BOS], [], pieces(normalizers.Replace(" ", "▁"), SPLIT(" ", "merged_with_previous"), llama(False))),
        "pieces without bytes": lambda: pieces(prepend, None, llama(), fallback=False),
        "unigram": unigram, "unigram, bytes": lambda: unigram(True),
        "like bert": lambda: word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        "word piece, no clean-up": lambda: word_piece(None, pre_tokenizers.Whitespace(), cleanup=False),
        "word level": word_level, "like clip": suffixes, "flags": flags}
    for name, normalizer in {
            "nfd": normalizers.NFD(), "nfkc": normalizers.NFKC(), "nfkd": normalizers.NFKD(), "lowercase": normalizers.Lowercase(),
            "strip": normalizers.Strip(), "accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "nmt": normalizers.Nmt(),
            "replace": normalizers.Sequence([normalizers.Replace("a", "<b>"), normalizers.Replace(Regex(r"\s{2,}"), " ")]),
            "prepend": normalizers.Prepend("x"), "empty": normalizers.Sequence([])}.items():
        made[f"normaliser {name}"] = lambda normalizer=normalizer: byte_level(level, normalizer)
    for name, pre_tokenizer in behaviours():
        made[f"{name}"] = lambda pre_tokenizer=pre_tokenizer: byte_level(pre_tokenizer)
    return made


def tiktoken_files():
    """Files of a folder like Moonlight's: ranks in tiktoken.model, special tokens of 258 reserved ones by their ids."""
    vocabulary = json.loads(byte_level(bytes_split(GPT4)).to_str())["model"]["vocab"]
    back = {char: byte for byte, char in byte_characters().items()}
    tokens = [bytes(back[c] for c in text) for text, _ in sorted(vocabulary.items(), key=lambda item: item[1]) if text not in (BOS, EOS)]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    decoder = {str(len(tokens) + i): text_cases.entry(text) for i, text in KIMI_SPECIAL.items()}
    config = {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder, "additional_special_tokens": list(KIMI_SPECIAL.values())[2:7],
              "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]", "pad_token": "[PAD]", "clean_up_tokenization_spaces": False,
              "auto_map": {"AutoTokenizer": ["tokenization_moonshot.TikTokenTokenizer", None]}}
    return {"tiktoken.model": ("\n".join(lines) + "\n").encode(), "tokenizer_config.json": json.dumps(config).encode()}


def tiktoken_as_fast(files):
    """The same vocabulary and pattern by `tokenizers`, another implementation: its merges follow from the ranks."""
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, files["tiktoken.model"].decode().splitlines())}
    spelt = lambda token: "".join(byte_characters()[byte] for byte in token)
    merges = [tuple(map(spelt, parts_of(token, ranks))) for token in ranks if len(token) > 1]
    tokenizer = Tokenizer(models.BPE({spelt(token): rank for token, rank in ranks.items()}, merges, ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_split(KIMI), decoders.ByteLevel()
    hidden = json.loads(files["tokenizer_config.json"])
    hidden = {*hidden["additional_special_tokens"], *(hidden[f"{name}_token"] for name in ("bos", "eos", "unk", "pad"))}
    for index in range(258):
        text = KIMI_SPECIAL.get(index, f"<|reserved_token_{len(ranks) + index}|>")
        tokenizer.add_tokens([AddedToken(text, normalized=False, special=text in hidden)])
    return tokenizer


def main():
    out = Path(sys.argv[1])
    for name, make in kinds().items():
        text_cases.write_folder(out / name.replace(" ", "_"), make().to_str(), {})
    text_cases.write_folder(out / "like_moonlight", tiktoken_files(), {})


if __name__ == "__main__":
    main()
