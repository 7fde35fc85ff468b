#!/usr/bin/env python3
"""What the server adds to a token: streamed answers over HTTP beside the engine alone.

  python3 scripts/compare_server.py MODEL --rounds 5 --clients 1 8

One thread computes, in the server as in the engine, so that HTTP and the clients have another core.
The engine alone is `generate` with the clients' prompts; rounds take turns. Answers are sampled:
greedy ones of a small model repeat themselves, in step in the engine and out of step in the server,
which then reads other experts. Needs no packages.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import threading
import time

PROMPTS = ["It was the best of times, ", "Call me Ishmael. ", "The clock struck nine when ", "In my younger and ",
           "Alice was beginning to get ", "He looked at the sea and ", "Whan that Aprille ", "London. Michaelmas term "]


def prompts(clients):
    return [PROMPTS[i % len(PROMPTS)] for i in range(clients)]


def stream(address, prompt, tokens, times):
    """Appends when each chunk of a streamed answer came."""
    connection = http.client.HTTPConnection(address)
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 1, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"found status {response.status}: {response.read().decode()}")
    for line in response:
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())


def served(address, clients, tokens):
    """Milliseconds between tokens, while all clients have answers streamed."""
    times = [[] for _ in range(clients)]
    threads = [threading.Thread(target=stream, args=(address, prompt, tokens, t))
               for prompt, t in zip(prompts(clients), times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begin, end = max(t[0] for t in times), min(t[-1] for t in times)
    steps = [sum(begin < moment <= end for moment in t) for t in times]
    return 1e3 * (end - begin) / statistics.mean(steps)


def alone(farskip, model, clients, tokens):
    """The same of the engine, whose answers are equally long."""
    command = [farskip, "generate", model, "--max-new-tokens", str(tokens), "--temperature", "1",
               "--json", "--threads", "1"]
    for prompt in prompts(clients):
        command += ["--prompt", prompt]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    if any(len(one["tokens"]) != tokens for one in found):
        raise SystemExit("a prompt's answer ends early: another model, or fewer --tokens")
    return statistics.median(one["tbt_ms"] for one in found)


def spread(values):
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return f"{statistics.median(values):.3f} ± {quarters[2] - quarters[0]:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--farskip", default="build/farskip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    command = [options.farskip, "serve", options.model, "--port", "0", "--threads", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = server.stdout.readline().split("://")[-1].strip()
    try:
        print("| clients | engine, ms a token | over HTTP | ratio |\n|---:|---:|---:|---:|")
        for clients in options.clients:
            served(address, clients, 20)
            engine, http_times = [], []
            for _ in range(options.rounds):
                engine.append(alone(options.farskip, options.model, clients, options.tokens))
                http_times.append(served(address, clients, options.tokens))
            ratios = [b / a for a, b in zip(engine, http_times)]
            print(f"| {clients} | {spread(engine)} | {spread(http_times)} | {spread(ratios)} |", flush=True)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
