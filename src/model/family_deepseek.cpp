// DeepSeek-V2, DeepSeek-V3 (and Moonlight), Instella-MoE: latent attention, shared experts, leading
// dense layers.
#include <cmath>

#include "model/families.h"
#include "util/error.h"

namespace farskip::model {
namespace {

AttentionConfig parse_attention(const io::Fields& fields, ModelConfig& config) {
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
  // null: a direct query projection.
  attention.q_rank = fields.optional_integer("q_lora_rank", 1, kMaxWidth).value_or(0);
  const auto qk_dim = fields.optional_integer("qk_head_dim", 1, 2 * kMaxWidth);
  if (qk_dim && *qk_dim != attention.qk_dim())
    fields.refuse("qk_head_dim",
                  util::concat("qk_nope_head_dim + qk_rope_head_dim = ", attention.qk_dim()));
  if (const auto head_dim = fields.optional_integer("head_dim", 1, kMaxWidth);
      head_dim && config.family != Family::deepseek_v2 && *head_dim != attention.rope_dim)
    fields.refuse("head_dim", util::concat("qk_rope_head_dim = ", attention.rope_dim));
  attention.qkv_bias = attention.output_bias = flag(fields, "attention_bias");
  attention.norm_eps = 1e-6;  // of the latent norms, whatever rms_norm_eps says

  const bool interleaved = config.family == Family::deepseek_v2 || flag(fields, "rope_interleave");
  attention.rope = parse_rope(fields, attention.rope_dim, interleaved, config);
  attention.softmax_scale = 1.0 / std::sqrt(static_cast<double>(attention.qk_dim()));
  // The checkpoints' own code scales by mscale^2; transformers 4.57.6 forgets it for V2.
  if (const auto& yarn = attention.rope.yarn; yarn && yarn->mscale_all != 0)
    attention.softmax_scale *= std::pow(yarn_mscale(yarn->factor, yarn->mscale_all), 2);
  attention.gated = flag(fields, "gated_attention");
  return attention;
}

ExpertSelection v2_selection(const io::Fields& fields) {
  const std::string method = fields.optional_string("topk_method").value_or("");
  if (method == "greedy") return ExpertSelection::greedy;
  if (method == "group_limited_greedy") return ExpertSelection::group_maximum;
  fields.refuse("topk_method", "\"greedy\" or \"group_limited_greedy\"");
}

RouterConfig parse_router(const io::Fields& fields, Family family) {
  const bool v2 = family == Family::deepseek_v2;
  RouterConfig router;
  router.experts = fields.integer("n_routed_experts", 1, 65536);
  router.top_k = fields.integer("num_experts_per_tok", 1, 65536);
  router.score = v2 ? RouterScore::softmax : RouterScore::sigmoid;
  router.selection = v2 ? v2_selection(fields) : ExpertSelection::group_top2_biased;
  if (router.selection != ExpertSelection::greedy) {
    router.groups = fields.integer("n_group", 1, 65536);
    router.groups_kept = fields.integer("topk_group", 1, 65536);
  }
  router.normalise = flag(fields, "norm_topk_prob");
  router.scale = fields.number("routed_scaling_factor", 0, 1e6);
  if (v2 && router.normalise) router.scale = 1;  // the V2 checkpoints' code does one or the other
  return router;
}

/// Which layers are MoE by moe_layer_freq: a period, or a list with 0 or 1 for every layer.
std::vector<bool> moe_layers(const io::Fields& fields, int64_t depth) {
  constexpr const char* kKey = "moe_layer_freq";
  std::vector<bool> layers(depth);
  if (!fields.json().contains(kKey) || !fields.json()[kKey].is_array()) {
    const int64_t every = fields.optional_integer(kKey, 1, 65536).value_or(1);
    for (int64_t k = 0; k < depth; ++k) layers[k] = k % every == 0;
    return layers;
  }
  const auto list = fields.integers(kKey, 0, 1);
  if (std::ssize(list) != depth)
    fields.refuse(kKey, util::concat("an entry for each of the ", depth, " layers"));
  for (int64_t k = 0; k < depth; ++k) layers[k] = list[k] == 1;
  return layers;
}

}  // namespace

FieldTable deepseek_fields(Family family) {
  FieldTable table = with_common_fields({
      alias("num_local_experts", "n_routed_experts"), alias("num_experts", "n_routed_experts"),
      read("n_routed_experts"), read("num_key_value_heads"), read("head_dim"), read("qk_head_dim"),
      read("kv_lora_rank", 512), read("q_lora_rank", 1536), read("qk_nope_head_dim", 128),
      read("qk_rope_head_dim", 64), read("v_head_dim", 128), read("moe_layer_freq"),
      read("aux_loss_alpha"), harmless("seq_aux"),
      fixed("qk_layernorm", {true}),  // the latent norms, which all of these models have
  });
  const FieldTable v2 = {
      read("num_experts_per_tok"),
      read("n_shared_experts", 2),
      read("first_k_dense_replace", 0),
      read("n_group"),
      read("topk_group"),
      read("norm_topk_prob", false),
      read("routed_scaling_factor", 1.0),
      defaulted("max_position_embeddings", 2048),
      defaulted("intermediate_size", 11008),  // of no use where no layer is dense
      read("topk_method", "greedy"),
      fixed("scoring_func", {"softmax", nullptr}),
      fixed("rope_interleave", {true}),
  };
  const FieldTable v3 = {
      read("num_experts_per_tok", 8),
      read("n_shared_experts", 1),
      read("first_k_dense_replace", 3),
      read("n_group", 8),
      read("topk_group", 4),
      read("norm_topk_prob", true),
      read("routed_scaling_factor", 2.5),
      defaulted("max_position_embeddings", 4096),
      defaulted("intermediate_size", 18432),
      fixed("topk_method", {"noaux_tc", nullptr}),
      fixed("scoring_func", {"sigmoid", nullptr}),
      read("rope_interleave", true),
  };
  const FieldTable& rows = family == Family::deepseek_v2 ? v2 : v3;
  table.insert(table.end(), rows.begin(), rows.end());
  if (family == Family::instella_moe) table.push_back(read("gated_attention", true));
  return table;
}

void parse_deepseek(const io::Fields& fields, ModelConfig& config) {
  const AttentionConfig attention = parse_attention(fields, config);
  const int64_t dense_first = fields.integer("first_k_dense_replace", 0, 65536);
  const std::vector<bool> is_moe = moe_layers(fields, config.depth());
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
    if (k >= dense_first && is_moe[k]) layer.moe = moe;
  }
}

}  // namespace farskip::model
