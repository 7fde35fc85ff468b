"""How far a greedy answer of the server depends on what else is in its batch: the same requests one after another, and from many
clients at once. Where two answers part, shows how far the two best tokens were apart, beside how far rounding moves a
log-probability that both runs have. Ends with 1 if an answer parts where the two best are further apart than that.

    python3 scripts/compare_batches.py MODEL [--requests 2048] [--clients 16] [--dtype float32] [--binary B]

MODEL is a directory with a tokenizer, the demo's for example (runs/demo/original). Needs no packages.
"""
import argparse
import json
import random
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LENGTHS, NEW_TOKENS = (1, 5, 17, 40, 64, 100, 230), 24


def requests(count):
    """Pieces of a held-out book, of mixed lengths in words; some begin alike."""
    words = (ROOT / "data/demo/classics_valid.txt").read_text().split()
    chance = random.Random(1)
    for i in range(count):
        begin = chance.choice((0, 5000, chance.randrange(len(words) - LENGTHS[-1])))
        yield " ".join(words[begin:begin + LENGTHS[i % len(LENGTHS)]])


def ask(url, prompt):
    """The tokens, and of every one the log-probabilities of the two best."""
    body = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "logprobs": 2, "ignore_eos": True}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    found = json.load(urllib.request.urlopen(request, timeout=600))["choices"][0]["logprobs"]
    return found["tokens"], found["token_logprobs"], [sorted(top.values(), reverse=True)[:2] for top in found["top_logprobs"]]


def compare(alone, beside):
    """(differing places with the margins of both runs, largest movement of a log-probability before them)"""
    parted, moved = [], 0.0
    for i, (one, two) in enumerate(zip(alone, beside)):
        for k, (a, b) in enumerate(zip(one[0], two[0])):
            if a != b:
                parted.append((i, k, a, b, *(run[2][k][0] - run[2][k][-1] for run in (one, two))))
                break
            moved = max(moved, abs(one[1][k] - two[1][k]))
    return parted, moved


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("model")
    arguments.add_argument("--requests", type=int, default=2048)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--dtype", default="float32")
    arguments.add_argument("--binary", default=ROOT / "build" / "farskip")
    given = arguments.parse_args()
    command = [given.binary, "serve", given.model, "--port", "0", "--dtype", given.dtype]
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    url = server.stdout.readline().split(" at ")[-1].strip()
    try:
        prompts = list(requests(given.requests))
        alone = [ask(url, prompt) for prompt in prompts]
        with ThreadPoolExecutor(given.clients) as pool:
            beside = list(pool.map(lambda prompt: ask(url, prompt), prompts))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    parted, moved = compare(alone, beside)
    for i, k, a, b, *margins in parted:
        print(f"request {i}, token {k}: alone {a!r}, beside others {b!r}; the two best are {margins[0]:.2g} and {margins[1]:.2g} apart")
    print(f"{len(parted)} of {len(prompts)} answers part, {given.dtype}, {given.clients} clients; "
          f"a log-probability of both runs differs by up to {moved:.2g}")
    sys.exit(any(max(margins) > 2 * moved for *_, first, second in parted for margins in [(first, second)]))


if __name__ == "__main__":
    main()
