"""Writes the golden models of the tests, tests/data/models/<name>/: tiny random checkpoints of every family, made with
transformers, and what the plain implementation computes on them.

    .venv/bin/pip install torch transformers==4.57.6 safetensors
    .venv/bin/python scripts/oracle/make_goldens.py [name ...]

Before anything is written, plain.py is compared with (patched) transformers in regular connectivity: logits within 1e-4 of
their standard deviation, arg-max equal. Values are computed in float64 on the float32 weights and stored in float32.

golden.safetensors holds (C is regular, farskip, attention or moe; K a layer)
    tokens                            int64 [2, 24]
    logits.C, logits.farskip.last2    [2, 24, vocabulary]; last2: only the last two layers are converted
    residual.C.K                      x_K [2, 24, hidden], K = 0..layers, for C = regular and farskip
    routing.C.K                       int64 [2, 24, k] chosen experts, best first, for the same and MoE layers K
    margin.C.K                        [2, 24] smallest gap between the last chosen and the first rejected score
    generated.C                       int64 [16] greedy continuation of tokens[0], for the same
gradients.safetensors (two families) holds, for LOSS = kl, sft and kl+l2 (weight 0.1), `LOSS.loss` and `LOSS.<parameter>`:
the teacher is the regular model, the student the same weights with farskip in all layers (see plain.loss_and_gradients).

Tokens are chosen (deterministically) so that no expert choice and no arg-max of a generation is nearer to a tie than 3e-5,
and so that no generation meets an end-of-sequence token: every value may be compared, none needs to be skipped.
"""
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import configs
import reference
from plain import Model, loss_and_gradients

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "models"
VARIANTS = {name: (name, None) for name in ("regular", "farskip", "attention", "moe")} | {"farskip.last2": ("farskip", "last:2")}
LOSSES = ("kl", "sft", "kl+l2")
WITH_GRADIENTS = ("instella_moe", "qwen3_moe_dense_middle")
NEAR_TIE = 3e-5


def compare_with_transformers(name, directory, model, tokens):
    ours = model.forward(tokens, "regular").logits
    theirs = reference.load(directory)(tokens).logits
    error = float((ours - theirs).abs().max() / theirs.std())
    print(f"{name:26} plain against transformers: {error:.1e} of the logits' standard deviation {float(theirs.std()):.2f}")
    if error > 1e-4 or not torch.equal(ours.argmax(-1), theirs.argmax(-1)):
        sys.exit(f"{name}: plain.py and transformers differ")


def golden_values(model, seed):
    """The values under their names, or None where these tokens come near a tie or an end of sequence."""
    c = model.config
    tokens = torch.randint(4, c["vocab_size"], (2, 24), generator=torch.Generator().manual_seed(seed))
    values, ends = {"tokens": tokens}, torch.tensor(c["eos_token_id"]).flatten()
    for variant, how in VARIANTS.items():
        out = model.forward(tokens, *how)
        if min(float(m.min()) for m in out.margins.values()) < NEAR_TIE:
            return None
        values[f"logits.{variant}"] = out.logits
        if variant in ("regular", "farskip"):
            values |= {f"residual.{variant}.{k}": x for k, x in enumerate(out.residuals)}
            values |= {f"routing.{variant}.{k}": x for k, x in out.routing.items()}
            values |= {f"margin.{variant}.{k}": x for k, x in out.margins.items()}
            new, safe = model.generate(tokens[0].tolist(), 16, connectivity=variant)
            if safe < NEAR_TIE or torch.isin(torch.tensor(new), ends).any():
                return None
            values[f"generated.{variant}"] = torch.tensor(new)
    return values


def stored(values):
    return {name: (t.float() if t.is_floating_point() else t).contiguous().clone() for name, t in values.items()}


def make(name, seed):
    directory = DATA / name
    shutil.rmtree(directory, ignore_errors=True)
    reference.make_checkpoint(directory, configs.GOLDEN[name], seed, configs.SHARDS.get(name, 1))
    model = Model(directory, torch.float64)
    with torch.no_grad():
        tried = (golden_values(model, 1000 * seed + i) for i in range(1000))
        values = next(v for v in tried if v is not None)
        compare_with_transformers(name, directory, model, values["tokens"])
    save_file(stored(values), directory / "golden.safetensors")
    if name in WITH_GRADIENTS:
        gradients = {}
        for loss in LOSSES:
            value, found = loss_and_gradients(model, values["tokens"], loss)
            gradients |= {f"{loss}.loss": value} | {f"{loss}.{key}": g for key, g in found.items()}
        save_file(stored(gradients), directory / "gradients.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed, name in enumerate(configs.GOLDEN):
        if name in sys.argv[1:] or len(sys.argv) == 1:
            make(name, seed)
