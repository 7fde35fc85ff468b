"""Tiny model configurations as the hub writes them: fixed ones that hold every trap, and random ones."""
import random

COMMON = {"hidden_act": "silu", "max_position_embeddings": 128, "initializer_range": 0.02, "use_cache": True,
          "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 0, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False}
DEEPSEEK = COMMON | {"first_k_dense_replace": 1, "moe_layer_freq": 1, "hidden_size": 36, "intermediate_size": 28,
                     "moe_intermediate_size": 9, "n_routed_experts": 8, "num_experts_per_tok": 3, "vocab_size": 99,
                     "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 3, "q_lora_rank": None,
                     "kv_lora_rank": 11, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
                     "aux_loss_alpha": 0.001, "seq_aux": True, "eos_token_id": 1}
V2 = DEEPSEEK | {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "scoring_func": "softmax",
                 "topk_method": "greedy", "n_group": 1, "topk_group": 1, "n_shared_experts": 2,
                 "norm_topk_prob": False, "routed_scaling_factor": 1.0}
V3 = DEEPSEEK | {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "scoring_func": "sigmoid",
                 "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
                 "norm_topk_prob": True, "routed_scaling_factor": 2.5}
INSTELLA = V3 | {"architectures": ["InstellaMoEForCausalLM"], "gated_attention": True, "qk_layernorm": True}
QWEN = COMMON | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 36, "head_dim": 10,
                 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 28, "decoder_sparse_step": 1,
                 "moe_intermediate_size": 9, "num_experts": 8, "num_experts_per_tok": 3, "vocab_size": 99,
                 "num_hidden_layers": 4, "norm_topk_prob": True, "mlp_only_layers": [], "use_sliding_window": False,
                 "sliding_window": 4, "max_window_layers": 4, "output_router_logits": False, "eos_token_id": 1}


def yarn(mscale=None, mscale_all_dim=None):
    """A ramp that bends within the 4 to 8 rotary dimensions of these models."""
    scales = {"mscale": mscale, "mscale_all_dim": mscale_all_dim} if mscale else {}
    return {"type": "yarn", "factor": 40, "beta_fast": 4, "beta_slow": 0.5, "original_max_position_embeddings": 64} | scales


GOLDEN = {
    "deepseek_v2": V2 | {"rope_scaling": yarn(0.9, 0.707), "rope_theta": 1000.0, "qk_rope_head_dim": 8,
                         "pad_token_id": 3, "moe_layer_freq": 1, "rms_norm_eps": 1e-5},
    "deepseek_v2_qlora_groups": V2 | {
        "q_lora_rank": 13, "attention_bias": True, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
        "norm_topk_prob": False, "routed_scaling_factor": 16.0, "n_shared_experts": None, "moe_layer_freq": 2,
        "first_k_dense_replace": 0, "num_hidden_layers": 5, "rope_scaling": yarn(0.707, 0.707), "eos_token_id": [1, 98]},
    "deepseek_v2_normalised": V2 | {"norm_topk_prob": True, "routed_scaling_factor": 3.0, "n_shared_experts": 1,
                                    "rope_scaling": yarn(), "num_hidden_layers": 3},
    "deepseek_v3": V3 | {"q_lora_rank": 13, "attention_bias": True, "n_group": 4, "topk_group": 2, "v_head_dim": 7,
                         "rope_scaling": yarn(1.0, 0.8), "rope_theta": 1000.0, "qk_rope_head_dim": 8,
                         "num_nextn_predict_layers": 1, "first_k_dense_replace": 2, "num_hidden_layers": 5},
    "moonlight": V3 | {"n_shared_experts": 2, "routed_scaling_factor": 2.446, "rms_norm_eps": 1e-5,
                       "rope_theta": 50000.0, "eos_token_id": [1, 98], "pad_token_id": 3, "num_nextn_predict_layers": 0},
    "deepseek_v3_halves": V3 | {"rope_interleave": False, "norm_topk_prob": False, "n_shared_experts": 0,
                                "tie_word_embeddings": True, "num_hidden_layers": 3},
    "instella_moe": INSTELLA | {"rope_interleave": True, "rope_scaling": yarn(1.0, 1.0), "rope_theta": 8000000,
                                "hidden_size": 28, "vocab_size": 90, "moe_intermediate_size": 7,
                                "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 2, "eos_token_id": 1, "n_shared_experts": 2},
    "qwen3_moe": QWEN | {"rope_theta": 1000000.0},
    "qwen3_moe_dense_middle": QWEN | {"mlp_only_layers": [2], "tie_word_embeddings": True, "attention_bias": True,
                                      "norm_topk_prob": False, "hidden_size": 28, "vocab_size": 90,
                                      "moe_intermediate_size": 6, "head_dim": 6, "eos_token_id": [1, 89]},
}
SHARDS = {"deepseek_v3": 3}
FAMILIES = ("deepseek_v2", "deepseek_v3", "instella_moe", "qwen3_moe")


def random_config(family, seed):
    """A model of the family with every size and switch drawn from the seed; at least one layer is MoE."""
    pick = random.Random(f"{family} {seed}")
    some, flip = pick.randint, lambda: pick.random() < 0.5
    layers = some(2, 5)
    config = {"deepseek_v2": V2, "deepseek_v3": V3, "instella_moe": INSTELLA, "qwen3_moe": QWEN}[family] | {
        "hidden_size": some(24, 56), "vocab_size": some(50, 130), "num_hidden_layers": layers,
        "intermediate_size": some(16, 48), "moe_intermediate_size": some(7, 33), "rms_norm_eps": pick.choice([1e-6, 1e-5]),
        "tie_word_embeddings": flip(), "attention_bias": flip(), "rope_theta": pick.choice([1000.0, 10000.0, 1e6]),
        "norm_topk_prob": flip()}
    if family == "qwen3_moe":
        shared = some(1, 3)
        return config | {"num_key_value_heads": shared, "num_attention_heads": shared * some(1, 4),
                         "head_dim": 2 * some(2, 9), "num_experts": some(5, 14), "num_experts_per_tok": some(2, 5),
                         "mlp_only_layers": sorted(k for k in range(layers) if k != 1 and pick.random() < 0.3),
                         "decoder_sparse_step": pick.choice([1, 1, 2]), "rope_scaling": pick.choice([None, yarn()])}
    heads, groups = some(1, 4), pick.choice([1, 2, 4])
    config |= {"num_attention_heads": heads, "num_key_value_heads": heads, "q_lora_rank": pick.choice([None, some(5, 20)]),
               "kv_lora_rank": some(5, 20), "qk_nope_head_dim": some(3, 12), "qk_rope_head_dim": 2 * some(1, 6),
               "v_head_dim": some(3, 12), "first_k_dense_replace": some(0, layers - 2), "moe_layer_freq": pick.choice([1, 1, 2]),
               "n_routed_experts": groups * some(3, 4), "n_group": groups, "topk_group": some(1, groups),
               "num_experts_per_tok": some(2, 3), "n_shared_experts": some(0, 2),
               "routed_scaling_factor": pick.choice([1.0, 2.446]),
               "rope_scaling": pick.choice([None, yarn(), yarn(1.0, 0.8), yarn(0.707, 0.707)])}
    if family == "deepseek_v2":
        return config | {"topk_method": "group_limited_greedy" if groups > 1 else "greedy"}
    return config | pick.choice([{}, {"rope_interleave": True}, {"rope_interleave": False}])
