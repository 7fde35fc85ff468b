"""Greedy decoding at batch 1 beside llama.cpp: the same bfloat16 weights, the same cores, in turn in one run.

    pip install gguf
    python scripts/compare_llama.py --llama-bench PATH/llama-bench [--rounds 5] [--threads 1 2]

The random models of scripts/compare_transformers.py (run that first) are written as GGUF files next to them. A round is one
llama-bench of 64 tokens after 128 and one such decode of build/bench/step_worker, each in a process of its own with a warm-up of
its own. llama.cpp takes a DeepSeek-V2 without low-rank queries only at the numbers of layers that it knows; for the model of
8 layers `is_lite` in its src/models/deepseek2.cpp must be made to say yes.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTEXT, NEW = 128, 64


def write_settings(writer, c):
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_expert_used_count(c["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    if c["model_type"] == "qwen3_moe":
        writer.add_expert_count(c["num_experts"])
        writer.add_head_count_kv(c["num_key_value_heads"])
        writer.add_key_length(c["head_dim"])
        writer.add_value_length(c["head_dim"])
        return
    import gguf
    writer.add_expert_count(c["n_routed_experts"])
    writer.add_expert_shared_count(c["n_shared_experts"])
    writer.add_expert_weights_scale(c["routed_scaling_factor"])
    writer.add_expert_weights_norm(c["norm_topk_prob"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    writer.add_leading_dense_block_count(c["first_k_dense_replace"])
    writer.add_head_count_kv(1)
    writer.add_kv_lora_rank(c["kv_lora_rank"])
    writer.add_rope_dimension_count(c["qk_rope_head_dim"])
    writer.add_key_length(c["kv_lora_rank"] + c["qk_rope_head_dim"])
    writer.add_value_length(c["kv_lora_rank"])
    writer.add_key_length_mla(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    writer.add_value_length_mla(c["v_head_dim"])


def tensors(c, given):
    """(GGUF name, tensor, whether it is kept in float32) of the whole model."""
    import torch
    deepseek = c["model_type"] == "deepseek_v2"
    yield "token_embd", given["model.embed_tokens.weight"], False
    yield "output_norm", given["model.norm.weight"], True
    yield "output", given["lm_head.weight"], False
    for k in range(c["num_hidden_layers"]):
        layer, block = f"model.layers.{k}.", f"blk.{k}."
        named = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
                 "attn_output": "self_attn.o_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                 "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
                 "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
                 "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate",
                 "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
                 "ffn_down_shexp": "mlp.shared_experts.down_proj"}
        for name, source in named.items():
            if layer + source + ".weight" in given:
                yield block + name, given[layer + source + ".weight"], name.endswith("norm") or name == "ffn_gate_inp"
        if deepseek:
            kv_b = given[layer + "self_attn.kv_b_proj.weight"].unflatten(0, (c["num_attention_heads"], -1))
            yield block + "attn_k_b", kv_b[:, : c["qk_nope_head_dim"]].transpose(1, 2), False
            yield block + "attn_v_b", kv_b[:, c["qk_nope_head_dim"]:], False
        if layer + "mlp.gate.weight" in given:
            for name in ("gate", "up", "down"):
                experts = range(c["n_routed_experts"] if deepseek else c["num_experts"])
                stacked = torch.stack([given[f"{layer}mlp.experts.{e}.{name}_proj.weight"] for e in experts])
                yield f"{block}ffn_{name}_exps", stacked, False


def write_gguf(directory, path):
    import gguf
    import torch
    from safetensors.torch import load_file
    c = json.loads((directory / "config.json").read_text())
    writer = gguf.GGUFWriter(path.with_suffix(".partial"), "deepseek2" if c["model_type"] == "deepseek_v2" else "qwen3moe")
    write_settings(writer, c)
    for name, tensor, wide in tensors(c, load_file(directory / "model.safetensors")):
        if wide:
            writer.add_tensor(name + ".weight", tensor.float().numpy())
        else:
            bits = tensor.contiguous().view(torch.uint8).numpy()
            writer.add_tensor(name + ".weight", bits, raw_shape=bits.shape, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".partial").rename(path)


def llama_ms(program, path, threads):
    command = [program, "-m", path, "-t", str(threads), "-p", "0", "-n", str(NEW), "-d", str(CONTEXT), "-r", "1", "-o", "json"]
    return 1000 / json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]["avg_ts"]


def our_ms(directory, threads):
    command = [ROOT / "build/bench/step_worker", "--model", directory, "--threads", str(threads)]
    requests = f"decode 1 {CONTEXT} {NEW}\n" * 2 + "quit\n"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, input=requests, capture_output=True, text=True, check=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])["ms"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--llama-bench", required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--models", type=Path, default=ROOT / "runs" / "compare")
    given = arguments.parse_args()
    print("| model | threads | farskip, ms | llama.cpp, ms | ratio |\n|---|---|---|---|---|")
    for directory in sorted(path.parent for path in given.models.glob("*/model.safetensors")):
        path = directory.with_suffix(".gguf")
        if not path.exists():
            write_gguf(directory, path)
        for threads in given.threads:
            rounds = [(our_ms(directory, threads), llama_ms(given.llama_bench, path, threads)) for _ in range(given.rounds)]
            ours, theirs = zip(*rounds)
            ratios = sorted(b / a for a, b in rounds)
            print(f"| {directory.name} | {threads} | {statistics.median(ours):.2f} | {statistics.median(theirs):.2f} | "
                  f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
