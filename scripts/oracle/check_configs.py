"""Holds how the program reads config.json against how transformers does: spellings, absent fields, nulls, numbers of other
types, lists, and what must be refused. Works with transformers 4.57 and 5; ends with 1 if anything differs, with 77 without
it.

    .venv/bin/python scripts/oracle/check_configs.py [--binary B] [--only TEXT]

Each row edits the config.json of a small random checkpoint and leaves its weights. "same": the program's logits are those
that transformers computes from the edited file; where this transformers can't read it, those of the file that means the
same. "means": of the file that means the same, as transformers does not read the field. "same5": the same, as transformers
5 alone reads it. "five": that too, and as 4 reads it otherwise, the program must say so in a note.
"refused": exit code 2 and one line that names the field.
"""
import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

try:
    import transformers
    from safetensors.torch import save_file
except ImportError as missing:
    print(f"check_configs: skipped: {missing}; ./test sees to transformers")
    sys.exit(77)
import subprocess

import torch
from transformers import AutoConfig, AutoModelForCausalLM, logging

from binary import BUILT, Failure, Farskip, random_tokens

logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.filterwarnings("ignore")
FIVE = int(transformers.__version__.split(".")[0]) >= 5
LIMIT = 1e-4
ABSENT = object()

COMMON = {"hidden_act": "silu", "max_position_embeddings": 64, "initializer_range": 0.02, "vocab_size": 60,
          "hidden_size": 32, "intermediate_size": 24, "moe_intermediate_size": 8, "num_hidden_layers": 3,
          "num_attention_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
          "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 0,
          "eos_token_id": 1}
# Sizes of a head as the classes have them by default, so that they can be left out.
LATENT = COMMON | {"num_key_value_heads": 2, "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
                   "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 16, "num_experts_per_tok": 8,
                   "moe_layer_freq": 1}
YARN = {"factor": 40, "original_max_position_embeddings": 16, "beta_fast": 4, "beta_slow": 0.5}
BASE = {
    "v3": LATENT | {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "n_shared_experts": 1,
                    "first_k_dense_replace": 1, "n_group": 8, "topk_group": 4, "norm_topk_prob": True,
                    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "v2": LATENT | {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "n_shared_experts": 2,
                    "first_k_dense_replace": 0, "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
                    "routed_scaling_factor": 1.0, "scoring_func": "softmax", "topk_method": "greedy"},
    "qwen": COMMON | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_attention_heads": 8,
                      "num_key_value_heads": 4, "head_dim": 6, "num_experts": 8, "num_experts_per_tok": 8,
                      "decoder_sparse_step": 1, "norm_topk_prob": False, "mlp_only_layers": [],
                      "use_sliding_window": False, "sliding_window": 4, "max_window_layers": 3},
}

# (family, what is edited before the weights are made, what is edited after, verdict, what it means where transformers can't
# read it). ABSENT takes a field away, None is null.
NOTHING = {}
ROWS = [
    # Rope's spellings.
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn"}}, "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"rope_type": "yarn"}}, "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.8}},
     "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "rope_type": "default"}}, "five", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "default", "rope_type": "yarn"}}, "five", None),
    ("qwen", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "rope_type": "default"}}, "five", None),
    ("v2", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "rope_type": "default"}}, "five", None),
    ("v3", NOTHING, {"rope_scaling": {}}, "same", {"rope_scaling": None}),
    ("qwen", NOTHING, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "same5", None),
    ("v3", NOTHING, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": 10000}, "same5", None),
    ("v3", NOTHING, {"rope_parameters": {"rope_type": "default"}, "rope_theta": 500}, "same", None),
    ("v3", NOTHING, {"rope_scaling": {}, "rope_parameters": YARN | {"rope_type": "yarn", "rope_theta": 500.0}}, "same5", None),
    ("qwen", NOTHING, {"rope_scaling": {}, "rope_parameters": YARN | {"rope_type": "yarn", "rope_theta": 500.0}}, "same5",
     None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn"}, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
     "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "rope_theta": 500.0}}, "same5", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "beta_fast": 0, "beta_slow": None}}, "same",
     {"rope_scaling": YARN | {"type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0}}),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "truncate": False}}, "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "attention_factor": 1.5}}, "same", None),
    ("v3", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "original_max_position_embeddings": ABSENT}}, "same",
     {"rope_scaling": YARN | {"type": "yarn", "original_max_position_embeddings": 64}}),
    ("qwen", NOTHING, {"rope_scaling": YARN | {"type": "yarn"}, "original_max_position_embeddings": 32}, "same5", None),
    ("qwen", NOTHING, {"rope_scaling": YARN | {"type": "yarn", "factor": None}}, "same5", None),
    ("v3", NOTHING, {"rope_theta": ABSENT}, "same", None),
    ("v3", NOTHING, {"rope_theta": "10000"}, "same", NOTHING),
    ("v3", NOTHING, {"rope_theta": 10000}, "same", None),
    ("v3", NOTHING, {"rope_theta": None}, "refused", "rope_theta"),
    ("v3", NOTHING, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "refused", "type"),
    ("qwen", NOTHING, {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5.0}}}, "refused",
     "full_attention"),
    ("qwen", NOTHING, {"partial_rotary_factor": 0.5}, "refused", "partial_rotary_factor"),
    # Fields that are absent.
    *[("v3", NOTHING, {key: ABSENT}, "same", None)
      for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "num_experts_per_tok", "n_group",
                  "topk_group", "norm_topk_prob", "routed_scaling_factor", "n_shared_experts", "scoring_func", "topk_method",
                  "hidden_act", "rms_norm_eps", "rope_scaling", "attention_bias", "tie_word_embeddings",
                  "max_position_embeddings", "moe_layer_freq", "initializer_range", "torch_dtype", "architectures",
                  "eos_token_id")],
    ("v3", {"q_lora_rank": 1536}, {"q_lora_rank": ABSENT}, "same", None),
    ("v3", {"first_k_dense_replace": 3}, {"first_k_dense_replace": ABSENT}, "same", None),
    ("v3", NOTHING, {"num_key_value_heads": ABSENT}, "same", NOTHING),
    ("v3", NOTHING, {"model_type": ABSENT}, "same", NOTHING),
    *[("v2", NOTHING, {key: ABSENT}, "same", None)
      for key in ("n_group", "topk_group", "topk_method", "norm_topk_prob", "routed_scaling_factor", "n_shared_experts",
                  "num_key_value_heads", "first_k_dense_replace", "architectures", "scoring_func", "max_position_embeddings",
                  "intermediate_size")],
    ("v2", {"q_lora_rank": 1536}, {"q_lora_rank": ABSENT}, "same", None),
    ("qwen", {"head_dim": 4}, {"head_dim": ABSENT}, "same", None),
    *[("qwen", NOTHING, {key: ABSENT}, "same", None)
      for key in ("num_key_value_heads", "num_experts_per_tok", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers",
                  "use_sliding_window", "sliding_window", "max_position_embeddings", "architectures")],
    # Nulls.
    ("v3", NOTHING, {"architectures": None}, "same", None),
    ("v3", NOTHING, {"norm_topk_prob": None}, "same", {"norm_topk_prob": False}),
    ("v2", NOTHING, {"norm_topk_prob": None}, "same", {"norm_topk_prob": False}),
    ("qwen", NOTHING, {"norm_topk_prob": None}, "same", {"norm_topk_prob": False}),
    ("v3", NOTHING, {"rope_interleave": None}, "same", {"rope_interleave": False}),
    ("v3", NOTHING, {"num_key_value_heads": None}, "same", NOTHING),
    ("v2", NOTHING, {"num_key_value_heads": None, "n_group": None, "topk_group": None}, "same", NOTHING),
    ("v3", NOTHING, {"attention_bias": None, "tie_word_embeddings": None, "max_position_embeddings": None}, "same", NOTHING),
    ("qwen", {"head_dim": 4}, {"head_dim": None}, "same", {"head_dim": 4}),
    ("qwen", NOTHING, {"mlp_only_layers": None, "sliding_window": None}, "same", None),
    *[("v3", NOTHING, {key: None}, "refused", key)
      for key in ("n_group", "topk_group", "num_experts_per_tok", "first_k_dense_replace", "routed_scaling_factor",
                  "hidden_act", "rms_norm_eps", "kv_lora_rank", "v_head_dim", "n_routed_experts")],
    ("v2", NOTHING, {"topk_method": None}, "refused", "topk_method"),
    ("qwen", NOTHING, {"num_key_value_heads": None}, "refused", "num_key_value_heads"),
    # Numbers of other types, other names, other spellings.
    ("v3", NOTHING, {"hidden_size": 32.0, "num_hidden_layers": 3.0, "n_group": 8.0, "moe_intermediate_size": 8.0}, "same",
     NOTHING),
    ("v3", NOTHING, {"hidden_act": "swish"}, "same", None),
    ("v3", NOTHING, {"hidden_act": "gelu"}, "refused", "hidden_act"),
    ("v3", NOTHING, {"n_routed_experts": ABSENT, "num_local_experts": 16}, "same", NOTHING),
    ("v2", NOTHING, {"n_routed_experts": ABSENT, "num_experts": 16}, "same", NOTHING),
    ("qwen", NOTHING, {"num_experts": ABSENT, "num_local_experts": 8, "torch_dtype": ABSENT, "dtype": "float32"}, "same",
     NOTHING),
    ("v3", NOTHING, {"head_dim": 64, "qk_head_dim": 192}, "same", None),
    ("v3", NOTHING, {"head_dim": 192}, "refused", "head_dim"),
    ("v3", NOTHING, {"something_new": float("nan"), "another": float("inf")}, "same", None),
    # Lists with an entry a layer.
    ("v3", NOTHING, {"layer_types": ["full_attention"] * 3, "mlp_layer_types": ["dense", "sparse", "sparse"]}, "same", None),
    ("v3", NOTHING, {"mlp_layer_types": ["dense", "dense", "sparse"]}, "refused", "mlp_layer_types"),
    ("v3", NOTHING, {"layer_types": ["sliding_attention"] * 3, "sliding_window": 4}, "refused", "layer_types"),
    ("qwen", NOTHING, {"layer_types": ["sliding_attention"] * 3}, "same", NOTHING),  # without use_sliding_window
    ("qwen", NOTHING, {"use_sliding_window": True}, "refused", "sliding_window"),
    ("qwen", NOTHING, {"use_sliding_window": True, "sliding_window": None}, "same", None),
    ("v3", {"first_k_dense_replace": 0}, {"moe_layer_freq": [1, 1, 1]}, "same", None),
    ("v3", NOTHING, {"first_k_dense_replace": 0, "moe_layer_freq": [0, 1, 1]}, "means", NOTHING),
    ("v3", NOTHING, {"moe_layer_freq": [1, 1, 1]}, "same", None),
    ("v3", NOTHING, {"architectures": ["Qwen3MoeForCausalLM"]}, "refused", "model_type"),
]


def edited(config, edits):
    """ABSENT takes fields away, those of an object in it too."""
    result = {key: value for key, value in (config | edits).items() if value is not ABSENT}
    return {key: edited(value, NOTHING) if isinstance(value, dict) else value for key, value in result.items()}


def write(directory, config):
    (directory / "config.json").write_text(json.dumps(config))


def make_weights(directory, config):
    """Random weights whose routing is rarely near a tie."""
    generator = torch.Generator().manual_seed(1)
    write(directory, config)
    with torch.no_grad():
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
        for name, t in model.state_dict().items():
            noise = torch.randn(t.shape, generator=generator)
            if name.endswith("correction_bias"):  # positive, as transformers 4 gives groups that are out a score of 0
                t.copy_(0.05 * noise.abs())
            elif t.ndim == 1:
                t.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
            else:
                t.copy_(2 * noise * (1 if "embed" in name else t.shape[-1] ** -0.5))
    model.save_pretrained(directory)


def theirs(directory, tokens):
    """Logits of transformers; None if it can't read or run the file."""
    try:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            return model(tokens).logits
    except Exception:  # of many kinds, from deep inside
        return None


def refusal(binary, directory):
    """The program's one line, or None if it reads the file."""
    done = subprocess.run([str(binary), "inspect", str(directory)], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode == 2 and done.stderr.count("\n") == 1 else None


def says(binary, directory):
    return subprocess.run([str(binary), "inspect", str(directory)], capture_output=True, text=True).stdout


def check(farskip, directory, base, row):
    """What is wrong, or None; and what was compared."""
    _, _, edits, verdict, meaning = row
    config = edited(base, edits)
    write(directory, config)
    if verdict == "refused":
        line = refusal(farskip.binary, directory)
        return (None if line and meaning in line else f"not refused by name: {line}"), "refused"
    tokens = random_tokens(base, 3, (2, 20))
    only_five = verdict in ("five", "same5")
    if only_five and not FIVE:
        if verdict == "five" and "is not taken into account" not in says(farskip.binary, directory):
            return "no note that transformers 4 reads it otherwise", "note"
        farskip.logits(directory, tokens, "--dtype", "float32")
        return None, "read as by transformers 5"
    expected, against = theirs(directory, tokens) if verdict != "means" else None, "transformers"
    if expected is None and meaning is not None:
        write(directory, edited(base, meaning))
        expected, against = theirs(directory, tokens), "what it means"
        write(directory, config)
    if expected is None:
        return "transformers can't run it", ""
    got, _ = farskip.logits(directory, tokens, "--dtype", "float32")
    worst = float((got - expected).abs().max() / expected.std())
    return (None if worst < LIMIT else f"logits differ by {worst:.1e} of their standard deviation"), f"{against} {worst:.0e}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    arguments.add_argument("--only", default="", help="rows whose edits contain this text")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    bad = rows = 0
    with tempfile.TemporaryDirectory() as scratch:
        made = {}
        for row in ROWS:
            family, before, edits, verdict, _ = row
            shown = json.dumps(edited(edits, NOTHING) | {k: "absent" for k, v in edits.items() if v is ABSENT})
            if given.only not in shown:
                continue
            base = BASE[family] | before
            key = json.dumps([family, before])
            if key not in made:
                made[key] = Path(scratch) / str(len(made))
                made[key].mkdir()
                make_weights(made[key], base)
            try:
                wrong, compared = check(Farskip(given.binary, scratch), made[key], base, row)
            except Failure as failure:
                wrong, compared = str(failure), ""
            rows, bad = rows + 1, bad + bool(wrong)
            print(f"{family:5} {verdict:8} {shown[:90]:90} {compared:24} {wrong or 'ok'}", flush=True)
    print(f"{rows - bad} of {rows} rows as transformers {transformers.__version__} reads them")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
