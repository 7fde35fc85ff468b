// DeepSeek-V2, DeepSeek-V3 (and Moonlight), Instella-MoE: latent attention, shared experts, leading
// dense layers.
#include <cmath>

#include "model/families.h"
#include "util/error.h"

namespace farskip::model {
namespace {

AttentionConfig parse_attention(const io::Fields& fields, const ModelConfig& config) {
  AttentionConfig attention;
  attention.kind = AttentionKind::mla;
  attention.heads = fields.integer("num_attention_heads", 1, 65536);
  attention.kv_heads =
      fields.optional_integer("num_key_value_heads", 1, 65536).value_or(attention.heads);
  if (attention.kv_heads != attention.heads)
    fields.refuse("num_key_value_heads", util::concat("num_attention_heads = ", attention.heads,
                                                      " (latent attention has no groups)"));
  attention.nope_dim = fields.integer("qk_nope_head_dim", 1, kMaxWidth);
  attention.rope_dim = fields.integer("qk_rope_head_dim", 2, kMaxWidth);
  attention.v_dim = fields.integer("v_head_dim", 1, kMaxWidth);
  attention.kv_rank = fields.integer("kv_lora_rank", 1, kMaxWidth);
  if (!fields.json().contains("q_lora_rank"))
    fields.refuse("q_lora_rank", "a rank, or null for a direct query projection");
  attention.q_rank = fields.optional_integer("q_lora_rank", 1, kMaxWidth).value_or(0);
  const auto qk_dim = fields.optional_integer("qk_head_dim", 1, 2 * kMaxWidth);
  if (qk_dim && *qk_dim != attention.qk_dim())
    fields.refuse("qk_head_dim",
                  util::concat("qk_nope_head_dim + qk_rope_head_dim = ", attention.qk_dim()));
  attention.qkv_bias = attention.output_bias =
      fields.optional_boolean("attention_bias").value_or(false);
  attention.norm_eps = 1e-6;  // of the latent norms, whatever rms_norm_eps says

  const bool interleaved = config.family == Family::deepseek_v2 ||
                           fields.optional_boolean("rope_interleave").value_or(true);
  attention.rope = parse_rope(fields, attention.rope_dim, interleaved, config.max_positions);
  attention.softmax_scale = 1.0 / std::sqrt(static_cast<double>(attention.qk_dim()));
  if (attention.rope.yarn) {
    // The checkpoints' own code scales by mscale^2; transformers 4.57.6 forgets it for V2.
    const double mscale_all = rope_scaling(fields)->optional_number("mscale_all_dim").value_or(0);
    if (mscale_all != 0)
      attention.softmax_scale *= std::pow(yarn_mscale(attention.rope.yarn->factor, mscale_all), 2);
  }

  if (config.family == Family::instella_moe) {
    attention.gated = fields.optional_boolean("gated_attention").value_or(true);
    only(fields, "qk_layernorm", true);  // the latent norms, which all of these models have
  } else {
    only(fields, "gated_attention", false);
  }
  return attention;
}

RouterConfig parse_router(const io::Fields& fields, Family family) {
  const bool v2 = family == Family::deepseek_v2;
  RouterConfig router;
  router.experts = fields.integer(
      fields.has("n_routed_experts") ? "n_routed_experts" : "num_local_experts", 1, 65536);
  router.top_k = fields.integer("num_experts_per_tok", 1, 65536);
  only(fields, "scoring_func", v2 ? "softmax" : "sigmoid");
  router.score = v2 ? RouterScore::softmax : RouterScore::sigmoid;

  const std::string method =
      fields.optional_string("topk_method").value_or(v2 ? "greedy" : "noaux_tc");
  if (v2 && method == "greedy") {
    router.selection = ExpertSelection::greedy;
  } else if (v2 && method == "group_limited_greedy") {
    router.selection = ExpertSelection::group_maximum;
  } else if (!v2 && method == "noaux_tc") {
    router.selection = ExpertSelection::group_top2_biased;
  } else {
    fields.refuse("topk_method", v2 ? "\"greedy\" or \"group_limited_greedy\"" : "\"noaux_tc\"");
  }
  if (router.selection != ExpertSelection::greedy) {
    router.groups = fields.optional_integer("n_group", 1, 65536).value_or(v2 ? 1 : 8);
    router.groups_kept = fields.optional_integer("topk_group", 1, 65536).value_or(v2 ? 1 : 4);
  }
  router.normalise = fields.optional_boolean("norm_topk_prob").value_or(!v2);
  router.scale = fields.optional_number("routed_scaling_factor", 0, 1e6).value_or(v2 ? 1.0 : 2.5);
  if (v2 && router.normalise) router.scale = 1;  // the V2 checkpoints' code does one or the other
  return router;
}

}  // namespace

void parse_deepseek(const io::Fields& fields, ModelConfig& config) {
  const AttentionConfig attention = parse_attention(fields, config);
  const int64_t dense_first = fields.optional_integer("first_k_dense_replace", 0, 65536)
                                  .value_or(config.family == Family::deepseek_v2 ? 0 : 3);
  const int64_t every = fields.optional_integer("moe_layer_freq", 1, 65536).value_or(1);
  const int64_t dense_width = fields.integer("intermediate_size", 1, 4 * kMaxWidth);
  MoeConfig moe;
  moe.router = parse_router(fields, config.family);
  moe.expert_width = fields.integer("moe_intermediate_size", 1, kMaxWidth);
  moe.shared_width =
      fields.optional_integer("n_shared_experts", 0, 1024).value_or(0) * moe.expert_width;
  config.aux_loss_coefficient = fields.optional_number("aux_loss_alpha", 0, 100).value_or(0);

  for (int64_t k = 0; k < config.depth(); ++k) {
    LayerConfig& layer = config.layers[k];
    layer.attention = attention;
    layer.dense_width = dense_width;
    if (k >= dense_first && k % every == 0) layer.moe = moe;
  }
}

}  // namespace farskip::model
