"""The demo: what FarSkip does to a model, and what self-distillation gives back, on held-out books.

Trains a small DeepSeek-V2-style model on the books in data/demo, then compares on two held-out books: the original; the same
weights with FarSkip connectivity, untrained; FarSkip after supervised fine-tuning; FarSkip after FCSD (KL self-distillation)
for the same number of steps. Only farskip's own verbs do the work. What a finished step made is kept in runs/demo and used
again, unless the step's command, the program's inputs or an earlier step changed.

    .venv/bin/python scripts/demo.py [--scale 1.0] [--out runs/demo] [--threads N]
"""
import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "demo"
FARSKIP = ROOT / "build" / "farskip"
PROMPT = "The captain looked at the sea and said"
SEQUENCE, BATCH_TOKENS, HELD_OUT_TOKENS = 256, 2048, 81920
PRETRAIN_STEPS, RECOVERY_STEPS = 600, 150
TRAINING_LINK, SERVING_LINK = 500, 1000  # Mbit/s: communication is a third to a half of regular blocking


class Steps:
    """Runs each step once: a step's result is kept with a digest of all that went into it."""

    def __init__(self, out):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    def run(self, title, name, words, after=(), answers=False):
        """Runs `farskip WORDS` unless that was done before; `after`: names of steps it builds on. Returns the name, or what
        the program printed if `answers`."""
        inputs = [str(w) for w in words] + [self.digest(step) for step in after]
        digest, done = hashlib.sha256("\n".join(inputs).encode()).hexdigest(), self.out / f"{name}.done"
        if done.exists() and done.read_text().split("\n", 1)[0] == digest:
            print(f"-- {title}: done before", flush=True)
            return done.read_text().split("\n", 1)[1] if answers else name
        print(f"-- {title}\n   farskip {' '.join(shorten(w) for w in words)}", flush=True)
        if (self.out / name).exists():
            shutil.rmtree(self.out / name)
        start = time.monotonic()
        ended = subprocess.run([FARSKIP, *map(str, words)], stdout=subprocess.PIPE, text=True)
        if ended.returncode:
            sys.exit(f"demo: {title} failed: farskip {words[0]} ended with {ended.returncode}")
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
        done.write_text(f"{digest}\n{ended.stdout}")
        return ended.stdout if answers else name

    def digest(self, name):
        return (self.out / f"{name}.done").read_text().split("\n", 1)[0]


def shorten(word):
    return os.path.relpath(word) if isinstance(word, Path) else f"'{word}'" if " " in str(word) else str(word)


def unpack_books(out):
    train = out / "classics_train.txt"
    if not train.exists():
        partial = train.with_suffix(".partial")
        with gzip.open(DATA / "classics_train.txt.gz", "rb") as packed, open(partial, "wb") as plain:
            shutil.copyfileobj(packed, plain)
        partial.rename(train)
    return train


def table(cells):
    """Rows of text under a row of headings."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    line = lambda row: "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
    return "\n".join([line(cells[0]), "  ".join("-" * w for w in widths), *map(line, cells[1:])])


def quality(rows):
    head = ["held-out books", "loss", "perplexity", "KL to original", "top-1 agreement", "router agreement"]
    return table([head] + [[name, f"{r['loss']:.3f}", f"{r['perplexity']:.1f}", f"{r['kl']:.3f}", f"{r['top1_agreement']:.1%}",
                            f"{r['router_agreement']:.1%}"] for name, r in rows])


class TwoRanks:
    """The original on two ranks over an emulated link, regular against FarSkip."""

    def __init__(self, steps, model):
        self.steps, self.model = steps, model
        self.emulated = True
        possible = subprocess.run([FARSKIP, *map(str, self.launch(SERVING_LINK)), "bench", "train", "--help"], capture_output=True, text=True)
        if possible.returncode:
            print(f"-- no emulated link here, so over loopback: {possible.stderr.strip()}")
            self.emulated = False

    def launch(self, rate):
        return ["launch", "--ranks", 2, *(["--link", f"{rate}mbit"] if self.emulated else []), "--"]

    def link(self, rate):
        return f"a link of {rate} Mbit/s" if self.emulated else "loopback"

    def bench(self, title, verb, rate, words):
        """The rows of `farskip bench VERB WORDS`."""
        answer = self.steps.run(f"{title} on two ranks over {self.link(rate)}", f"two-ranks-{verb}", self.launch(rate) +
                                ["bench", verb, "--model", self.model, "--routing", "real", "--threads", 1, *words, "--json"],
                                after=["original"], answers=True)
        return json.loads(answer)["rows"]

    def training(self, trace):
        rows = self.bench("Training steps", "train", TRAINING_LINK, ["--batch", 2, "--micro-batches", 4, "--sequence", SEQUENCE, "--interleave",
                                                                      "--combine", "rank", "--rounds", 5, "--trace", trace])
        for row in rows:
            row["ms"] = row["step_ms"]
            for key in ("communication_ms", "exposed_ms"):
                row[key] = row["forward"][key] + row["backward"][key]
        return (f"{self.figures('a training step on two ranks', rows, TRAINING_LINK)}. What happened when, to look at: "
                f"{shorten(trace)}-farskip-overlapped.html beside -regular-blocking.html (.json for Perfetto)")

    def serving(self):
        first = self.bench("Prompts", "ttft", SERVING_LINK, ["--transport", "all-reduce", "--prompt", 3 * SEQUENCE, "--rounds", 9])
        next_ = self.bench("Decoding", "tbt", SERVING_LINK, ["--transport", "all-reduce", "--prompt", SEQUENCE, "--batch", 8, "--rounds", 9])
        return "\n\n".join([self.figures(f"time to the first token, prompt of {3 * SEQUENCE}", first, SERVING_LINK),
                            self.figures("time between tokens, 8 sequences", next_, SERVING_LINK)])

    def figures(self, title, rows, rate):
        cells = [[title, "ms", "speed-up", "communication hidden", "waited, ms"]]
        for row in rows:
            bound = row["network"] == "none"
            hidden = 1 - row["exposed_ms"] / max(row["communication_ms"], 1e-9)
            cells.append([f"{row['connectivity']}, {'no network (the bound)' if bound else row['execution']}", f"{row['ms']:.1f}",
                          f"{row['speedup']:.2f}", "" if bound else f"{hidden:.1%}", f"{row['exposed_ms']:.1f}"])
        return f"{table(cells)}\nover {self.link(rate)}; communication is {rows[0]['share']:.0%} of regular blocking"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--scale", type=float, default=1.0, help="times the numbers of training steps")
    arguments.add_argument("--out", type=Path, default=ROOT / "runs" / "demo")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    given = arguments.parse_args()
    out, books = given.out.resolve(), DATA / "classics_valid.txt"
    steps = Steps(out)
    train = unpack_books(out)
    pretrain_steps, recovery_steps = (max(1, round(n * given.scale)) for n in (PRETRAIN_STEPS, RECOVERY_STEPS))
    common = ["--sequence", SEQUENCE, "--threads", given.threads]
    learning = ["--batch-tokens", BATCH_TOKENS, *common]

    steps.run(f"Training the original: {pretrain_steps} steps, regular connectivity", "original",
              ["pretrain", "--config", DATA / "config.json", "--tokenizer", DATA / "tokenizer.json", "--data", train,
               "--out", out / "original", "--steps", pretrain_steps, "--learning-rate", 2e-3, *learning])
    recovery = ["distill", out / "original", "--data", train, "--connectivity", "farskip", "--steps", recovery_steps,
                "--learning-rate", 5e-4, "--seed", 1, *learning]
    steps.run(f"FarSkip, fine-tuned: {recovery_steps} steps of cross entropy", "sft",
              recovery + ["--out", out / "sft", "--loss", "sft"], after=["original"])
    steps.run(f"FarSkip, self-distilled: {recovery_steps} steps of KL to the original", "fcsd",
              recovery + ["--out", out / "fcsd", "--loss", "kl"], after=["original"])

    variants = [("original", "original", "regular"), ("FarSkip, untrained", "original", "farskip"),
                ("FarSkip after SFT", "sft", "farskip"), ("FarSkip after FCSD", "fcsd", "farskip")]
    rows, samples = [], []
    for title, model, connectivity in variants:
        slug = f"{model}-{connectivity}"
        answer = steps.run(f"Reading the held-out books: {title}", f"eval-{slug}",
                           ["eval", out / model, "--data", books, "--max-tokens", HELD_OUT_TOKENS, "--teacher", out / "original", "--connectivity",
                            connectivity, "--json", *common], after=[model], answers=True)
        rows.append((title, json.loads(answer)))
        answer = steps.run(f"A sample: {title}", f"sample-{slug}",
                           ["generate", out / model, "--prompt", PROMPT, "--max-new-tokens", 60, "--temperature", 0.7,
                            "--top-p", 0.9, "--seed", 1, "--connectivity", connectivity, "--threads", given.threads,
                            "--json"], after=[model], answers=True)
        samples.append((title, json.loads(answer)["text"]))

    ranks = TwoRanks(steps, out / "original")
    training, serving = ranks.training(out / "step"), ranks.serving()
    print(f"\n{quality(rows)}\n")
    for title, text in samples:
        print(f"{title}:")
        print(textwrap.indent(textwrap.fill(f"{PROMPT} [...] {' '.join(text.split())}", 100), "    "))
    print(f"\n{training}\n\n{serving}\n")
    for model in ("original", "sft", "fcsd"):
        print(f"{model:9} checkpoint {shorten(out / model)}, loss curve {shorten(out / model / 'loss.svg')}")


if __name__ == "__main__":
    main()
