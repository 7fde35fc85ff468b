"""Speed side by side with transformers: same checkpoint, same dtype, same cores, in one run; and how far from the machine's
bounds. Writes docs/benchmarks/transformers-DATE.md. Run it alone on the machine.

    .venv/bin/python scripts/compare_transformers.py [--rounds 7] [--threads 1 2] [--families deepseek_v2 qwen3_moe]

Two random models of about 225 M parameters in bfloat16 (made once in runs/compare). For each family and number of threads one
process a side is started (build/bench/step_worker and scripts/transformers_worker.py); they answer in turn, A B A B, so that
both see the same machine, and only one works at a time. Figures are medians with the interquartile range. Training ends in an
AdamW step: torch's fused one on bfloat16 weights for transformers, float32 master weights for farskip.

Bounds: the GEMM rate is what the engine reaches on one large bfloat16 matrix product, the bandwidth what reading a large
buffer gives, both measured between the rounds with the same threads. Prefill is held against its FLOPs (twice the active
parameters a token, plus attention), a decode step at batch 1 against the bytes of the active weights.
"""
import argparse
import datetime
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMON = {"vocab_size": 32000, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "hidden_act": "silu",
          "intermediate_size": 2048, "moe_intermediate_size": 512, "num_experts_per_tok": 4, "rms_norm_eps": 1e-6,
          "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": False, "attention_bias": False,
          "initializer_range": 0.02, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1}
CONFIGS = {
    "deepseek_v2": COMMON | {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "num_key_value_heads": 8, "q_lora_rank": None,
        "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "n_routed_experts": 32, "n_shared_experts": 1, "scoring_func": "softmax", "topk_method": "greedy",
        "n_group": 1, "topk_group": 1, "norm_topk_prob": False, "routed_scaling_factor": 1.0},
    "qwen3_moe": COMMON | {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_key_value_heads": 2, "head_dim": 64,
        "num_experts": 32, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True},
}
MEASURES = {"prefill 4 x 512": "prefill 4 512", "decode, batch 1": "decode 1 128 32", "decode, batch 8": "decode 8 128 32",
            "training step 4 x 512": "train 4 512"}


def make_model(family, directory):
    if (directory / "model.safetensors").exists():
        return
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIGS[family], indent=2))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory), dtype=torch.bfloat16)
    tensors = {name: t.contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, directory / "model.partial", metadata={"format": "pt"})
    (directory / "model.partial").rename(directory / "model.safetensors")


class Worker:
    def __init__(self, command, directory, threads):
        words = [*command, "--model", str(directory), "--threads", str(threads), "--dtype", "bfloat16"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare_transformers: {self.process.args[0]} ended at: {line}")
        time.sleep(0.1)  # let the threads of its last parallel region stop spinning
        return json.loads(answer)

    def quit(self):
        print("quit", file=self.process.stdin, flush=True)
        self.process.wait()


def measure(workers, line, rounds):
    """Milliseconds of each side, in turn; the first answer of each is a warm-up."""
    for worker in workers:
        worker.ask(line)
    return [list(column) for column in zip(*([w.ask(line)["ms"] for w in workers] for _ in range(rounds)))]


def short(ms):
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def spread(values):
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{short(statistics.median(values))} ± {short(quartiles[2] - quartiles[0])}"


def active_parameters(c):
    """Parameters that one token meets, head included, embedding table not."""
    hidden, heads, layers = c["hidden_size"], c["num_attention_heads"], c["num_hidden_layers"]
    if c["model_type"] == "deepseek_v2":
        query, rope, v = c["qk_nope_head_dim"] + c["qk_rope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        attention = (hidden * heads * query + hidden * (c["kv_lora_rank"] + rope)
                     + c["kv_lora_rank"] * heads * (c["qk_nope_head_dim"] + v) + heads * v * hidden)
        dense, experts = c["first_k_dense_replace"], c["n_routed_experts"]
    else:
        attention = hidden * c["head_dim"] * (2 * heads + 2 * c["num_key_value_heads"])
        dense, experts = 0, c["num_experts"]
    expert = 3 * hidden * c["moe_intermediate_size"]
    moe = hidden * experts + expert * (c["num_experts_per_tok"] + c.get("n_shared_experts", 0))
    return (attention * layers + dense * 3 * hidden * c["intermediate_size"] + (layers - dense) * moe
            + c["vocab_size"] * hidden)


def prefill_flops(c, batch, length):
    """The head runs on the last position only; attention counts the causal half."""
    head = c["vocab_size"] * c["hidden_size"]
    widths = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"] + c["v_head_dim"] if c["model_type"] == "deepseek_v2"
              else 2 * c["head_dim"])
    attention = 2 * c["num_hidden_layers"] * c["num_attention_heads"] * widths * length * (length + 1) / 2
    return batch * (2 * (active_parameters(c) - head) * length + 2 * head + attention)


def share_of_bound(config, name, ms, gflops, gbps):
    if name.startswith("prefill"):
        return f"{prefill_flops(config, 4, 512) / (ms / 1000) / 1e9 / gflops:.0%} of {gflops:.0f} GFLOP/s"
    if name == "decode, batch 1":
        return f"{2 * active_parameters(config) / (ms / 1000) / 1e9 / gbps:.0%} of {gbps:.1f} GB/s"
    return ""


def compare(family, directory, threads, given):
    """Table rows of one family with one number of threads."""
    ours, theirs = (Worker(shlex.split(command), directory, threads) for command in (given.farskip, given.transformers))
    rates, bandwidths, rows = [], [], []

    def bounds():
        rates.append(ours.ask("gemm")["gflops"])
        bandwidths.append(ours.ask("bandwidth")["gbps"])

    for name in given.only or MEASURES:
        bounds()
        our_ms, their_ms = measure([ours, theirs], MEASURES[name], given.rounds)
        bounds()
        rows.append((name, our_ms, their_ms))
        print(f"{family}, {threads} thread(s), {name}: {short(statistics.median(our_ms))} ms, "
              f"transformers {short(statistics.median(their_ms))} ms", file=sys.stderr, flush=True)
    ours.quit()
    theirs.quit()
    gflops, gbps = statistics.median(rates), statistics.median(bandwidths)
    return [[family, str(threads), name, spread(our_ms), spread(their_ms),
             f"{statistics.median(their_ms) / statistics.median(our_ms):.2f}x",
             share_of_bound(CONFIGS[family], name, statistics.median(our_ms), gflops, gbps)] for name, our_ms, their_ms in rows]


def report(rows, given):
    shell = lambda *words: subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    import torch
    import transformers
    head = ["model", "threads", "what", "farskip, ms", "transformers, ms", "ratio", "share of the bound"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    dirty = " with local changes" if shell("git", "status", "--porcelain", "--untracked-files=no") else ""
    command = "python " + " ".join(["scripts/compare_transformers.py", *map(shlex.quote, sys.argv[1:])])
    return "\n".join([
        "# farskip and transformers side by side", "",
        f"{datetime.date.today()}, commit {shell('git', 'rev-parse', '--short', 'HEAD')}{dirty}, "
        f"{processor[1] if processor else 'processor unknown'}, {os.cpu_count()} cores; torch {torch.__version__}, transformers "
        f"{transformers.__version__}. Command: `{command}`. bfloat16 everywhere; medians of {given.rounds} interleaved rounds ± "
        "interquartile range; decode is per step. What is measured and what the bounds are: see the head of the script.", "",
        *lines, ""])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--families", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    arguments.add_argument("--only", nargs="+", choices=MEASURES)
    arguments.add_argument("--models", type=Path, default=ROOT / "runs" / "compare")
    arguments.add_argument("--out", type=Path, help="default: docs/benchmarks/transformers-DATE.md")
    arguments.add_argument("--farskip", default=str(ROOT / "build" / "bench" / "step_worker"), help="command of our side")
    arguments.add_argument("--transformers", default=f"{sys.executable} {ROOT / 'scripts' / 'transformers_worker.py'}",
                           help="command of the other side")
    given = arguments.parse_args()
    program = shlex.split(given.farskip)[0]
    if not Path(program).exists():
        sys.exit(f"compare_transformers: {program} not found; build it: cmake --build build --target step_worker")
    rows = []
    for family in given.families:
        make_model(family, given.models / family)
        for threads in given.threads:
            rows += compare(family, given.models / family, threads, given)
    text = report(rows, given)
    out = given.out or ROOT / "docs" / "benchmarks" / f"transformers-{datetime.date.today()}.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
