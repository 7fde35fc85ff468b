"""Trains the demo tokenizer: byte-level BPE of 4,096 tokens with a split like GPT-2's, as a Hugging Face directory.

Run once: python scripts/make_demo_tokenizer.py classics_train.txt.gz data/demo
"""

import argparse
import gzip
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIALS = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|assistant|>\\n' + message.content + eos_token }}
    {%- elif message.role in ['system', 'user'] %}
        {{- '<|user|>\\n' + message.content + '\\n' }}
    {%- else %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""


def read(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def train(text, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split("\n\n"), trainer)
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=pathlib.Path, help="UTF-8 text, plain or .gz")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=4096)
    arguments = parser.parse_args()

    text = read(arguments.corpus)
    tokenizer = train(text, arguments.size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIALS[0],
        "pad_token": SPECIALS[0],
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    with open(arguments.out / "tokenizer_config.json", "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")
    sample = text[:1_000_000]
    ids = tokenizer.encode(sample).ids
    print(f"{tokenizer.get_vocab_size()} tokens, {len(sample.encode()) / len(ids):.2f} bytes a token")


if __name__ == "__main__":
    main()
