#!/usr/bin/env python3
"""What reading text costs beside Hugging Face's `tokenizers` in Python; rounds take turns, ratios are printed.

  .venv/bin/python scripts/compare_text.py MODEL FILE [--rounds 5] [--before FARSKIP] [--parts file,start,server]

file    encoding FILE on one thread, line by line and whole: the program's tokenizer against `tokenizers`
start   `generate` of one token: this build against the one of --before
server  16 short texts at once beside a long one (the start of FILE): how long the short ones wait, over /tokenize
        against threads that share one `tokenizers.Tokenizer`
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHORT = [f"Call me Ishmael, said number {i}." for i in range(16)]


def seconds(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratio(name, ours, theirs):
    pairs = [a / b for a, b in zip(ours, theirs)]
    print(f"{name}: ours {statistics.median(ours):.4f} s, theirs {statistics.median(theirs):.4f} s, "
          f"ratio {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})", flush=True)


def compare_file(given, tokenizer):
    text = Path(given.file).read_text(encoding="utf-8")
    lines = text.split("\n")
    ours, theirs = {"whole": [], "lines": []}, {"whole": [], "lines": []}
    for _ in range(given.rounds):
        told = json.loads(subprocess.run([given.worker, given.model, given.file, "1"], check=True, capture_output=True, text=True).stdout)
        theirs["whole"].append(seconds(lambda: tokenizer.encode(text, add_special_tokens=False).ids))
        theirs["lines"].append(seconds(lambda: [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]))
        for kind in ours:
            ours[kind].append(told[kind])
    for kind in ours:
        ratio(f"file of {len(text)} characters, {kind}", ours[kind], theirs[kind])


def compare_start(given, _):
    words = ["generate", given.model, "--prompt", "Once", "--max-new-tokens", "1", "--threads", "1"]
    run = lambda binary: seconds(lambda: subprocess.run([binary, *words], check=True, capture_output=True))
    now, before = [], []
    for _ in range(given.rounds):
        now.append(run(given.farskip))
        before.append(run(given.before))
    ratio("start-up", now, before)
    print(f"start-up: {statistics.median(a - b for a, b in zip(now, before)):+.3f} s")


def waits(short, long):
    """The longest of 16 short calls that begin together while a long one is under way."""
    started, times = threading.Event(), []
    def slow():
        started.set()
        long()
    threads = [threading.Thread(target=slow)]
    threads += [threading.Thread(target=lambda text=text: times.append(seconds(lambda: short(text)))) for text in SHORT]
    threads[0].start()
    started.wait()
    time.sleep(0.02)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    return max(times)


def compare_server(given, tokenizer):
    text = Path(given.file).read_text(encoding="utf-8")[:given.long]
    server = subprocess.Popen([given.farskip, "serve", given.model, "--port", "0", "--threads", "1"], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split(" at http://")[1].strip()

        def ask(prompt):
            connection = http.client.HTTPConnection(address)
            connection.request("POST", "/tokenize", json.dumps({"prompt": prompt}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"found status {answer.status}: {answer.read().decode()}")
            answer.read()

        encode = lambda prompt: tokenizer.encode(prompt).ids
        ours, theirs = [], []
        for _ in range(given.rounds):
            ours.append(waits(ask, lambda: ask(text)))
            theirs.append(waits(encode, lambda: encode(text)))
        alone = [waits(ask, lambda: None) for _ in range(given.rounds)]
        ratio(f"16 short texts beside one of {len(text)} characters", ours, theirs)
        print(f"16 short texts alone: {statistics.median(alone):.4f} s; the long text alone: {seconds(lambda: ask(text)):.4f} s, "
              f"by tokenizers {seconds(lambda: encode(text)):.4f} s")
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", default="file,server")
    parser.add_argument("--long", type=int, default=500_000, help="characters of the long text")
    parser.add_argument("--farskip", default=ROOT / "build/farskip")
    parser.add_argument("--before", help="another build's farskip, for start")
    parser.add_argument("--worker", default=ROOT / "build/tests/text_worker")
    given = parser.parse_args()
    try:
        from tokenizers import Tokenizer
    except ImportError as missing:
        sys.exit(f"compare_text: {missing}; ./test installs it")
    tokenizer = Tokenizer.from_file(str(Path(given.model) / "tokenizer.json"))
    for part in given.parts.split(","):
        {"file": compare_file, "start": compare_start, "server": compare_server}[part](given, tokenizer)


if __name__ == "__main__":
    main()
