"""Writes tokenizer.json of Qwen3 and GPT-2 from the files that hold their vocabularies, checks them on golden strings.

Run once: python scripts/make_tokenizers.py --data TOKENIZERS --out tests/data/tokenizers
TOKENIZERS holds qwen/qwen.tiktoken, qwen/tokenizer_config_qwen3.json, gpt2/vocab.bpe, gpt2/encoder.json, deepseek_v3/ and
golden.jsonl (one object a line: text, and the ids under each tokenizer's name). Files are written with gzip.
"""

import argparse
import base64
import gzip
import json
import pathlib
import shutil

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_characters():
    """The printable character that stands for each byte."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(0x100 + i) for i, byte in enumerate(moved)}


def parts_of(token, ranks):
    """The two parts from which BPE makes this token last: what is left of its bytes by merges of lower rank."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        rank, at = min((ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        assert rank < ranks[token]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def qwen3(folder):
    lines = (folder / "qwen.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    characters = byte_characters()
    spelt = lambda token: "".join(characters[byte] for byte in token)
    vocabulary = {spelt(token): rank for token, rank in ranks.items()}
    merges = [tuple(map(spelt, parts_of(token, ranks))) for token in ranks if len(token) > 1]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    added = json.loads((folder / "tokenizer_config_qwen3.json").read_text())["added_tokens_decoder"]
    for number in sorted(map(int, added)):
        token = dict(added[str(number)])
        assert tokenizer.get_vocab_size() == number
        tokenizer.add_tokens([AddedToken(token.pop("content"), **token)])
    return tokenizer


def gpt2(folder):
    merges = [tuple(line.split()) for line in (folder / "vocab.bpe").read_text().splitlines()[1:]]
    vocabulary = json.loads((folder / "encoder.json").read_text())
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=True)])
    return tokenizer


def check(tokenizer, name, golden):
    for line in golden.read_text().splitlines():
        row = json.loads(line)
        found = tokenizer.encode(row["text"], add_special_tokens=False).ids
        assert found == row[name], (name, row["text"], found, row[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    made = {"qwen3": qwen3(arguments.data / "qwen"), "gpt2": gpt2(arguments.data / "gpt2")}
    for tokenizer in made.values():
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    texts = {name: tokenizer.to_str() for name, tokenizer in made.items()}
    with gzip.open(arguments.data / "deepseek_v3" / "tokenizer.json.gz", "rt", encoding="utf-8") as file:
        texts["deepseek_v3"] = file.read()
    arguments.out.mkdir(parents=True, exist_ok=True)
    golden = shutil.copyfile(arguments.data / "golden.jsonl", arguments.out / "golden.jsonl")
    for name, text in texts.items():
        check(Tokenizer.from_str(text), name, pathlib.Path(golden))
        packed = gzip.compress(text.encode(), 9, mtime=0)
        (arguments.out / f"{name}.tokenizer.json.gz").write_bytes(packed)
        print(f"{name}: {len(text)} characters, {len(packed)} bytes packed")


if __name__ == "__main__":
    main()
