// Qwen3-MoE: grouped-query attention with head norms, no shared experts, dense layers anywhere.
#include <algorithm>
#include <cmath>

#include "model/families.h"
#include "util/error.h"

namespace farskip::model {

FieldTable qwen3_moe_fields() {
  return with_common_fields({
      alias("num_local_experts", "num_experts"),
      alias("n_routed_experts", "num_experts"),
      read("num_experts"),
      read("num_experts_per_tok", 8),
      read("num_key_value_heads", 4),
      read("head_dim"),
      read("norm_topk_prob", false),
      read("decoder_sparse_step", 1),
      read("mlp_only_layers"),
      read("use_sliding_window", false),
      defaulted("max_position_embeddings", 32768),
      defaulted("intermediate_size", 6144),
      read("router_aux_loss_coef"),
      fixed("shared_expert_intermediate_size", {0, nullptr}),
      fixed("n_shared_experts", {0, nullptr}),
      fixed("use_qk_norm", {true}),
      fixed("qkv_bias", {false, nullptr}),
  });
}

void parse_qwen3_moe(const io::Fields& fields, ModelConfig& config) {
  AttentionConfig attention;
  attention.kind = AttentionKind::gqa;
  attention.heads = fields.integer("num_attention_heads", 1, 65536);
  attention.kv_heads = fields.integer("num_key_value_heads", 1, 65536);
  if (attention.heads % attention.kv_heads != 0)
    fields.refuse("num_key_value_heads",
                  util::concat("a divisor of num_attention_heads = ", attention.heads));
  const int64_t head_dim =
      fields.optional_integer("head_dim", 2, kMaxWidth).value_or(config.hidden / attention.heads);
  if (head_dim < 2)
    fields.refuse("num_attention_heads",
                  util::concat("at most half of hidden_size = ", config.hidden, ", or a head_dim"));
  attention.rope_dim = attention.v_dim = head_dim;
  attention.qkv_bias = attention.output_bias = flag(fields, "attention_bias");
  attention.qk_norm = true;
  attention.norm_eps = config.norm_eps;
  attention.softmax_scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  attention.rope = parse_rope(fields, head_dim, /*interleaved=*/false, config);
  if (flag(fields, "use_sliding_window") && fields.has("sliding_window"))
    fields.refuse("sliding_window",
                  "null, or use_sliding_window false (windows are not supported)");

  MoeConfig moe;
  moe.router.experts = fields.integer("num_experts", 1, 65536);
  moe.router.top_k = fields.integer("num_experts_per_tok", 1, 65536);
  moe.router.normalise = flag(fields, "norm_topk_prob");
  moe.router.in_model_dtype = true;
  moe.expert_width = fields.integer("moe_intermediate_size", 1, kMaxWidth);
  config.aux_loss_coefficient = fields.optional_number("router_aux_loss_coef", 0, 100).value_or(0);

  const int64_t step = fields.integer("decoder_sparse_step", 1, 65536);
  const auto dense =
      fields.optional_integers("mlp_only_layers", 0, 65536).value_or(std::vector<int64_t>{});
  const int64_t dense_width = fields.integer("intermediate_size", 1, 4 * kMaxWidth);
  for (int64_t k = 0; k < config.depth(); ++k) {
    LayerConfig& layer = config.layers[k];
    layer.attention = attention;
    layer.dense_width = dense_width;
    if (std::find(dense.begin(), dense.end(), k) == dense.end() && (k + 1) % step == 0)
      layer.moe = moe;
  }
}

}  // namespace farskip::model
