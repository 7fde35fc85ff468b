"""Trains and evaluates what the program writes with the programs that people use: TRL's SFTTrainer, and lm_eval's `hf` model.
Ends with 1 if something is wrong, with 77 without TRL. Not among the tests: TRL and accelerate are for an environment apart,

    python3 -m venv trl && echo $PWD/.venv/lib/python3.*/site-packages > trl/lib/python3.*/site-packages/shared.pth
    trl/bin/pip install trl accelerate
    trl/bin/python scripts/oracle/check_trl.py [--binary B]
"""
import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import check_export  # ends with 77 where transformers is missing

os.environ |= {"HF_DATASETS_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
try:
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager
    from trl import SFTConfig, SFTTrainer
except ImportError as missing:
    print(f"check_trl: skipped: {missing}")
    sys.exit(77)
import torch
from transformers import AutoTokenizer

from binary import BUILT, Farskip
from configs import QWEN, V3

ROOT = Path(__file__).resolve().parents[2]


def make(farskip, scratch, config):
    """A model that knows FarSkip from its first step, with a tokenizer."""
    config = config | {"vocab_size": 300, "max_position_embeddings": 2048}
    (scratch / "config.json").write_text(json.dumps(config))
    (scratch / "text.txt").write_text(check_export.TEXT * 40)
    check_export.byte_tokenizer(scratch / "tokenizer.json", 300)
    (scratch / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}))
    farskip.run("pretrain", "--config", scratch / "config.json", "--tokenizer", scratch, "--data", scratch / "text.txt", "--out",
                scratch / "run", "--connectivity", "farskip", "--steps", 2, "--batch-tokens", 64, "--sequence", 32, "--dtype", "float32")
    return scratch / "run"


def train(farskip, directory, scratch):
    """Two steps; the model that comes out is still FarSkip, and the program computes the same with it."""
    before = check_export.load(directory)
    rows = datasets.Dataset.from_dict({"text": [check_export.TEXT] * 8})
    trainer = SFTTrainer(
        model=before, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(directory, trust_remote_code=True),
        args=SFTConfig(output_dir=str(scratch / "sft"), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-3,
                       gradient_checkpointing=True, report_to=[], save_strategy="no", use_cpu=True, bf16=False))
    old = before.lm_head.weight.detach().clone()
    loss = trainer.train().training_loss
    check_export.ensure(math.isfinite(loss), f"the loss is {loss}")
    check_export.ensure(not torch.equal(old, trainer.model.lm_head.weight), "nothing was learnt")
    trainer.save_model(str(scratch / "sft"))
    check_export.refused(scratch / "sft")
    tokens = torch.randint(4, 300, (2, 24), generator=torch.Generator().manual_seed(5))
    ours, _ = farskip.logits(scratch / "sft", tokens, "--dtype", "float32")
    check_export.same(ours, check_export.logits(check_export.load(scratch / "sft"), tokens), "logits of what TRL saved")
    return f"loss {loss:.3f}"


def evaluate(farskip, directory, scratch):
    """A task of log-likelihoods and one of generation, and the first against transformers itself."""
    os.chdir(ROOT)  # the tasks' files are named from there
    results = lm_eval.simple_evaluate(
        "hf", model_args={"pretrained": str(directory), "trust_remote_code": True, "dtype": "float32", "device": "cpu"},
        tasks=["sample_arc_easy", "sample_gsm8k"], limit=2, log_samples=True, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(ROOT / "examples" / "lm_eval"), include_defaults=False))
    model, tokenizer = check_export.load(directory), AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    sample = results["samples"]["sample_arc_easy"][0]
    request, (found, _) = sample["arguments"][0], sample["resps"][0][0]
    context, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (request[0], "".join(request)))
    target = torch.tensor(whole[len(context):])
    scores = check_export.logits(model, torch.tensor([whole]))[0, len(context) - 1:-1].log_softmax(-1)
    expected = scores.gather(1, target[:, None]).sum().item()
    check_export.ensure(abs(found - expected) < 1e-3, f"a log-likelihood is {found}, not {expected}")
    return f"{sum(map(len, results['samples'].values()))} samples"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    binary = arguments.parse_args().binary
    torch.set_num_threads(1)
    sys.stdin = open(os.devnull)
    bad = 0
    for config in (V3, QWEN):
        with tempfile.TemporaryDirectory() as scratch:
            farskip = Farskip(binary, scratch)
            directory = make(farskip, Path(scratch), config)
            for check in (train, evaluate):
                try:
                    verdict = "ok, " + check(farskip, directory, Path(scratch))
                except check_export.Wrong as wrong:
                    verdict, bad = f"WRONG: {wrong}", bad + 1
                print(f"{config['model_type']:14} {check.__name__:10} {verdict}", flush=True)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
