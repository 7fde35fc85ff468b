"""transformers behind the protocol of build/bench/step_worker, for scripts/compare_transformers.py: reads a command a line from
stdin, answers each with one JSON line.

    prefill BATCH LENGTH     fill the caches, logits of the last position: {"ms"}
    decode BATCH PROMPT NEW  greedy, after a prefill that is not counted: {"ms"} a step
    train BATCH LENGTH       forward, cross entropy, backward, AdamW: {"ms"}
    quit
"""
import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, DynamicCache, logging

logging.set_verbosity_error()


class Worker:
    def __init__(self, directory, dtype):
        load = lambda kind: AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=kind)
        try:
            self.model = load("sdpa")
        except ValueError:
            self.model = load("eager")
        self.optimizer = None
        self.generator = torch.Generator().manual_seed(0)

    def tokens(self, batch, length):
        return torch.randint(4, self.model.config.vocab_size, (batch, length), generator=self.generator)

    @torch.inference_mode()
    def prefill(self, batch, length):
        tokens, cache = self.tokens(batch, length), DynamicCache()
        self.model.eval()
        start = time.perf_counter()
        self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start

    @torch.inference_mode()
    def decode(self, batch, prompt, new):
        tokens, cache = self.tokens(batch, prompt), DynamicCache()
        self.model.eval()
        step = lambda given: self.model(given, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
        tokens = step(tokens)
        start = time.perf_counter()
        for _ in range(new):
            tokens = step(tokens)
        return (time.perf_counter() - start) / new

    def train(self, batch, length):
        self.optimizer = self.optimizer or torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        tokens = self.tokens(batch, length)
        self.model.train()
        start = time.perf_counter()
        logits = self.model(tokens, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    worker = Worker(given.model, getattr(torch, given.dtype))
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "quit":
            break
        print(json.dumps({"ms": 1000 * getattr(worker, command)(*map(int, numbers))}), flush=True)


if __name__ == "__main__":
    main()
