"""Holds what the program writes against what others read, and the other way round. Ends with 1 if anything differs, with 77
without transformers.

    .venv/bin/python scripts/oracle/check_export.py [--binary B]

For each family that transformers has: a random checkpoint is distilled for two steps; transformers opens the result, says
nothing of missing or unknown tensors, and computes the logits that the program computes from it with regular connectivity.
For every family: config.json as transformers 5 writes it (rope_parameters, dtype, num_local_experts) is read alike: same bits.
"""
import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

try:
    import reference
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
except ImportError as missing:
    print(f"check_export: skipped: {missing}; .venv/bin/pip install transformers==4.57.6 tokenizers==0.22.2 safetensors")
    sys.exit(77)
import torch
from transformers import AutoModelForCausalLM

from binary import BUILT, Failure, Farskip, random_tokens
from configs import FAMILIES, random_config

VOCABULARY = 300
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.\n"
LIMIT = 1e-4


def byte_tokenizer(file):
    """A byte-level BPE of VOCABULARY tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(file))


def as_transformers_5(config):
    """The same config under the keys that transformers 5 writes."""
    new = dict(config)
    new["dtype"] = new.pop("torch_dtype")
    scaling = dict(new.pop("rope_scaling") or {"type": "default"})
    new["rope_parameters"] = {"rope_theta": new.pop("rope_theta"), "rope_type": scaling.pop("type")} | scaling
    if "num_experts" in new:
        new["num_local_experts"] = new.pop("num_experts")
    return new


def check_distilled(farskip, family, scratch):
    config = random_config(family, 5) | {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1}
    source, out, text = scratch / "source", scratch / "distilled", scratch / "text.txt"
    reference.make_checkpoint(source, config, 5)
    byte_tokenizer(source / "tokenizer.json")
    text.write_text(TEXT * 40)
    farskip.run("distill", source, "--data", text, "--out", out, "--connectivity", "farskip", "--steps", 2,
                "--batch-tokens", 64, "--sequence", 32, "--dtype", "float32")
    written = json.loads((out / "config.json").read_text())
    if not written.get("farskip"):
        return "config.json is not stamped with farskip"
    lost = [key for key in config if key not in written]
    if lost:
        return f"config.json lost {lost}"
    model, report = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager",
                                                         output_loading_info=True)
    wrong = {key: names for key, names in report.items() if names}
    if wrong:
        return f"transformers reports {wrong}"
    tokens = random_tokens(config, 5)
    with torch.no_grad():
        theirs = model.eval()(tokens).logits
    ours, _ = farskip.logits(out, tokens, "--connectivity", "regular", "--dtype", "float32")
    error = float((ours - theirs).abs().max() / theirs.std())
    return None if error < LIMIT else f"logits differ by {error:.1e} of their standard deviation"


def check_new_keys(farskip, family, scratch):
    old, new = scratch / "old", scratch / "new"
    for seed in (3, 4):
        config = random_config(family, seed)
        reference.make_checkpoint(old, config, seed)
        shutil.copytree(old, new, dirs_exist_ok=True)
        (new / "config.json").write_text(json.dumps(as_transformers_5(config), indent=2))
        tokens = random_tokens(config, seed)
        if not torch.equal(*(farskip.logits(d, tokens, "--dtype", "float32")[0] for d in (old, new))):
            return f"seed {seed}: logits differ"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    binary = arguments.parse_args().binary
    torch.set_num_threads(1)
    checks = [(check_distilled, family) for family in FAMILIES if family != "instella_moe"]
    checks += [(check_new_keys, family) for family in FAMILIES]
    bad = 0
    for check, family in checks:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                wrong = check(Farskip(binary, scratch), family, Path(scratch))
            except Failure as failure:
                wrong = str(failure)
        print(f"{check.__name__.removeprefix('check_').replace('_', ' '):12} {family:14} {wrong or 'ok'}", flush=True)
        bad += bool(wrong)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
