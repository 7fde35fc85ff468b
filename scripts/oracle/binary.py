"""Runs the built program on tensors and reads what it answers."""
import json
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BUILT = Path(__file__).resolve().parents[2] / "build" / "farskip"


class Failure(Exception):
    """A run of the program that did not end with 0."""


class Farskip:
    """The program, with scratch files in `scratch` and one thread a run."""

    def __init__(self, binary, scratch):
        self.binary, self.scratch, self.calls = str(binary), Path(scratch), 0

    def run(self, *words):
        self.calls += 1
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([self.binary, *map(str, words)], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Failure(f"farskip {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def _file(self, name):
        return self.scratch / f"{self.calls}.{name}.safetensors"

    def logits(self, directory, tokens, *options):
        """(logits, [x_0, .., x_L]) of tokens [batch, length]."""
        given, got = self._file("tokens"), self._file("logits")
        save_file({"tokens": tokens.contiguous()}, given)
        self.run("logits", directory, "--tokens", given, "--out", got, "--hidden-states", *options)
        out = load_file(got)
        layers = sum(name.startswith("residual.") for name in out)
        return out["logits"], [out[f"residual.{k}"] for k in range(layers)]

    def generate(self, directory, prompt, count, *options):
        """Greedy continuation of a list of tokens."""
        text = self.run("generate", directory, "--prompt-tokens", ",".join(map(str, prompt)), "--temperature", 0,
                        "--max-new-tokens", count, "--json", *options)
        return json.loads(text)["tokens"]

    def gradients(self, directory, tokens, loss, *options):
        """(loss, {parameter: gradient}) of the first step of distillation."""
        given, got = self._file("tokens"), self._file("gradients")
        save_file({"tokens": tokens.contiguous()}, given)
        self.run("distill", directory, "--tokens", given, "--save-gradients", got, "--loss", loss, *options)
        out = load_file(got)
        return float(out.pop("loss")), out


def random_tokens(config, seed, shape=(2, 24)):
    return torch.randint(4, config["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))
