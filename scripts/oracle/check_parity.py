"""Holds the built program against transformers (that of the Python which runs this: 4.57.6 or 5.24.0) and against the plain
implementation, live, on random checkpoints whose every size and switch is drawn from a seed. Prints a table; ends with 1 if
anything differs, with 77 without transformers.

    .venv/bin/python scripts/oracle/check_parity.py [--quick] [--seeds N] [--first-seed N] [--family F] [--binary B]

float32, for each family and seed (errors are fractions of the compared tensor's standard deviation; limit 1e-4, and every
arg-max equal), over the tokens that no expert choice nearer to a tie than 3e-5 can have reached:
    regular logits against transformers (patched, see reference.py) and plain.py; x_0..x_L, each, against plain.py;
    regular logits of the same checkpoint as transformers' save_pretrained writes it (config.json in that version's words);
    the same for every other connectivity, over all layers, over a random range, and as stamped into config.json;
    a greedy continuation of 12 tokens; loss and gradients of KL, cross entropy and KL + hidden L2 (limit 3e-4 of each
    gradient's maximum).
bfloat16: every layer by itself, from the program's own x_k: cosine of x_{k+1} with plain.py's at least 0.999 on tokens whose
expert choice is not near a tie in bfloat16; arg-max agreement with float32 is reported, not judged.
"""
import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

try:
    import reference
except ImportError as missing:
    print(f"check_parity: skipped: {missing}; .venv/bin/pip install transformers==4.57.6 safetensors")
    sys.exit(77)
import torch

from binary import BUILT, Failure, Farskip, random_tokens
from configs import FAMILIES, random_config
from plain import Model, loss_and_gradients

NEAR_TIE = 3e-5        # float32: gaps between expert scores that another order of sums may close
NEAR_TIE_BF16 = 0.03   # bfloat16: the same after rounding inputs to 8 bits
LIMIT = 1e-4
GRADIENT_LIMIT = 3e-4
COSINE = 0.999
LOSSES = ("kl", "sft", "kl+l2")


class Table:
    """Rows (what, figures, verdict) printed as they come; remembers what failed."""

    def __init__(self):
        self.rows, self.failed = 0, []

    def add(self, what, figures, good):
        self.rows += 1
        line = f"{what:58} {figures}"
        print(f"{line:136} {'ok' if good else 'DIFFERS'}", flush=True)
        if not good:
            self.failed.append(line)


def far_from_ties(out, limit):
    """Tokens [batch, length] that no choice nearer to a tie than the limit can have reached: neither here nor earlier."""
    safe = torch.ones(out.logits.shape[:2], dtype=torch.bool)
    for margin in out.margins.values():
        safe &= margin > limit
    return safe.long().cummin(dim=1).values.bool()


def error(got, expected, where):
    """Largest difference as a fraction of the expected tensor's standard deviation; infinite if shapes differ."""
    if got.shape != expected.shape:
        return math.inf
    worst = (got.double() - expected.double()).abs()[where].max() / expected.double().std()
    return math.inf if worst.isnan() else float(worst)


def compare_logits(table, what, got, expected, theirs=None):
    """got: (logits, residuals) of the program; expected: plain.Output; theirs: logits of transformers."""
    logits, residuals = got
    where = far_from_ties(expected, NEAR_TIE)
    if not where.any():
        table.add(what, "no token far from ties", True)
        return
    if len(residuals) != len(expected.residuals):
        table.add(what, f"{len(residuals)} residuals, expected {len(expected.residuals)}", False)
        return
    by_layer = [error(x, y, where) for x, y in zip(residuals, expected.residuals)]
    worst = max(range(len(by_layer)), key=by_layer.__getitem__)
    figures = f"tokens {int(where.sum()):2}  plain {error(logits, expected.logits, where):.0e}  x_{worst} {by_layer[worst]:.0e}"
    good = error(logits, expected.logits, where) < LIMIT and by_layer[worst] < LIMIT
    if not good:
        figures += f"  first off: x_{next((k for k, e in enumerate(by_layer) if e >= LIMIT), 'none')}"
    references = [expected.logits]
    if theirs is not None:
        figures += f"  transformers {error(logits, theirs, where):.0e}"
        good &= error(logits, theirs, where) < LIMIT
        references.append(theirs)
    for reference_logits in references:
        top = reference_logits.double().topk(2, dim=-1).values
        sure = where & (top[..., 0] - top[..., 1] > NEAR_TIE)
        if not torch.equal(logits.argmax(-1)[sure], reference_logits.argmax(-1)[sure]):
            figures, good = figures + "  arg-max", False
    table.add(what, figures, good)


def variants(config, pick, quick):
    """(connectivity, layers or None) to check besides regular."""
    count = config["num_hidden_layers"]
    start = pick.randrange(count)
    ranges = [f"{start}:{pick.randint(start + 1, count)}", f"last:{pick.randint(1, count)}", f"first:{pick.randint(1, count)}",
              f"last:{pick.choice([50, 75])}%", f"first:{pick.choice([34, 67])}%"]
    if quick:
        return [("farskip", None), (pick.choice(["attention", "moe", "farskip"]), pick.choice(ranges))]
    return [(c, r) for c in ("farskip", "attention", "moe") for r in (None, *pick.sample(ranges, 2))]


def stamp(directory, config, pick):
    """Writes AMD's keys into config.json: a random stamped connectivity."""
    start = pick.randrange(config["num_hidden_layers"])
    kind = pick.choice([{}, {"attn_only_farskip": True}, {"mlp_only_farskip": True},
                        {"attn_only_farskip": True, "mlp_only_farskip": True}])
    keys = {"farskip": True, "farskip_start_idx": start, "farskip_end_idx": pick.choice([start, 99])} | kind
    (directory / "config.json").write_text(json.dumps(config | keys, indent=2))
    return keys


def rename_class(directory, architectures):
    """save_pretrained names the class that ran; DeepSeek-V3's stands in for Instella-MoE's."""
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"architectures": architectures}, indent=2))


def check_generation(table, what, farskip, directory, model, seed, connectivity):
    ends = torch.tensor(model.config["eos_token_id"]).flatten()
    for attempt in range(20):
        prompt = random_tokens(model.config, 100 * seed + attempt, (7,)).tolist()
        expected, safe = model.generate(prompt, 12, connectivity=connectivity)
        if safe > NEAR_TIE and not torch.isin(torch.tensor(expected), ends).any():
            got = farskip.generate(directory, prompt, 12, "--connectivity", connectivity, "--dtype", "float32")
            table.add(f"{what} generate", "" if got == expected else f"{got} expected {expected}", got == expected)
            return
    table.add(f"{what} generate", "no prompt far from ties", True)


def tokens_far_from_ties(model, seed, layers):
    """[2, 12] tokens with no expert choice near a tie, in the teacher nor in the student; None if 100 seeds have none."""
    for attempt in range(100):
        tokens = random_tokens(model.config, 1000 * seed + attempt, (2, 12))
        with torch.no_grad():
            runs = [model.forward(tokens, "regular"), model.forward(tokens, "farskip", layers)]
        if all(far_from_ties(out, NEAR_TIE).all() for out in runs):
            return tokens


def check_gradients(table, what, farskip, directory, model, seed, loss, layers):
    tokens = tokens_far_from_ties(model, seed, layers)
    if tokens is None:
        table.add(f"{what} distill {loss} {layers or ''}", "no tokens far from ties", True)
        return
    expected, gradients = loss_and_gradients(model, tokens, loss, "farskip", layers)
    weight = ["--l2-weight", 0.1] if loss == "kl+l2" else []
    got, found = farskip.gradients(directory, tokens, loss, "--connectivity", "farskip", "--dtype", "float32", *weight,
                                   *(["--layers", layers] if layers else []))
    largest = max(float(g.abs().max()) for g in gradients.values())
    missing, extra = gradients.keys() - found.keys(), found.keys() - gradients.keys()
    wrong = lambda name: (float((found[name].double() - gradients[name].double()).abs().max())
                          / max(float(gradients[name].abs().max()), 1e-3 * largest))
    common = [name for name in gradients if name in found and found[name].shape == gradients[name].shape]
    worst = max(common, key=wrong)
    loss_error = abs(got - float(expected)) / max(abs(float(expected)), 1e-6)
    good = not missing and not extra and len(common) == len(gradients) and wrong(worst) < GRADIENT_LIMIT and loss_error < LIMIT
    figures = f"loss {loss_error:.0e}  gradients {wrong(worst):.0e}"
    if not good:
        figures += f" in {worst}; missing {sorted(missing)[:3]}, extra {sorted(extra)[:3]}"
    table.add(f"{what} distill {loss} {layers or ''}", figures, good)


def check_bfloat16(table, what, farskip, directory, tokens, exact, connectivity):
    logits, residuals = farskip.logits(directory, tokens, "--connectivity", connectivity, "--dtype", "bfloat16")
    model = Model(directory, torch.bfloat16)
    plain = model.forward(tokens, connectivity, forced=residuals)
    lowest = 1.0
    for k in range(len(residuals) - 1):
        where = plain.margins[k] > NEAR_TIE_BF16 if k in plain.margins else torch.ones(tokens.shape, dtype=torch.bool)
        cosine = torch.cosine_similarity(residuals[k + 1].float(), plain.residuals[k + 1].float(), dim=-1)
        if where.any():
            lowest = min(lowest, float(cosine[where].min()))
    agreement = lambda a: float((a.argmax(-1) == exact.argmax(-1)).float().mean())
    theirs = agreement(model.forward(tokens, connectivity).logits)
    table.add(f"{what} bfloat16 {connectivity}", f"lowest cosine {lowest:.5f}  arg-max {agreement(logits):.2f} (plain {theirs:.2f})",
              lowest >= COSINE)


def check(table, farskip, family, seed, directory, quick, parts):
    what, pick = f"{family} {seed}", random.Random(f"check {family} {seed}")
    config = random_config(family, seed)
    reference.make_checkpoint(directory, config, seed)
    model, tokens = Model(directory, torch.float64), random_tokens(config, seed, (pick.randint(1, 3), pick.randint(9, 30)))
    float32 = ["--dtype", "float32"]
    with torch.no_grad():
        if "logits" in parts:
            theirs = reference.load(directory)
            expected = model.forward(tokens, "regular"), theirs(tokens).logits
            compare_logits(table, f"{what} regular", farskip.logits(directory, tokens, "--connectivity", "regular", *float32), *expected)
            saved = directory / f"saved by {reference.__version__}"
            theirs.save_pretrained(saved)
            rename_class(saved, config["architectures"])
            compare_logits(table, f"{what} {saved.name}", farskip.logits(saved, tokens, *float32), *expected)
            for name, layers in variants(config, pick, quick):
                options = ["--connectivity", name, *(["--layers", layers] if layers else [])]
                compare_logits(table, f"{what} {name} {layers or ''}", farskip.logits(directory, tokens, *options, *float32),
                               model.forward(tokens, name, layers))
        if "generate" in parts:
            for name in ("farskip",) if quick else ("regular", "farskip"):
                check_generation(table, what, farskip, directory, model, seed, name)
        if "bfloat16" in parts:
            for name in ("farskip",) if quick else ("regular", "farskip", "attention", "moe"):
                check_bfloat16(table, what, farskip, directory, tokens, model.forward(tokens, name).logits, name)
    if "distill" in parts:
        count = config["num_hidden_layers"]
        for loss in (LOSSES[seed % 3],) if quick else LOSSES:
            check_gradients(table, what, farskip, directory, model, seed, loss, pick.choice([None, f"last:{count - 1}", "last:50%"]))
    if "logits" in parts:
        keys = stamp(directory, config, pick)
        shown = " ".join(f"{k.replace('farskip', 'f')}={v}" for k, v in keys.items() if k != "farskip")
        with torch.no_grad():
            compare_logits(table, f"{what} stamped {shown}"[:58], farskip.logits(directory, tokens, *float32),
                           Model(directory, torch.float64).forward(tokens))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="two seeds a family, fewer variants: about a minute")
    arguments.add_argument("--seeds", type=int, help="checkpoints a family (default: 8; quick: 2)")
    arguments.add_argument("--first-seed", type=int, default=0)
    arguments.add_argument("--family", choices=FAMILIES, action="append")
    arguments.add_argument("--parts", default="logits,generate,bfloat16,distill", help="comma-separated choice of the checks")
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    table, parts = Table(), given.parts.split(",")
    seeds = range(given.first_seed, given.first_seed + (given.seeds or (2 if given.quick else 8)))
    with tempfile.TemporaryDirectory() as scratch:
        farskip = Farskip(given.binary, scratch)
        for family in given.family or FAMILIES:
            for seed in seeds:
                try:
                    check(table, farskip, family, seed, Path(scratch) / f"{family}-{seed}", given.quick, parts)
                except Failure as failure:
                    table.add(f"{family} {seed}", str(failure), False)
    print(f"{table.rows - len(table.failed)} of {table.rows} comparisons agree ({farskip.calls} runs of the program)")
    for line in table.failed:
        print(f"DIFFERS: {line}")
    sys.exit(bool(table.failed))


if __name__ == "__main__":
    main()
