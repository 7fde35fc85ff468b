#include "model/share.h"

#include "util/error.h"

namespace farskip::model {
namespace {

void check(const LayerConfig& layer, const Share& share) {
  const auto divides = [](const char* option, int64_t ranks, int64_t count, const char* what) {
    util::require(count % ranks == 0, option, ranks,
                  util::concat("a divisor of the model's ", count, what));
  };
  if (layer.moe) divides("--ep", share.experts.count, layer.moe->router.experts, " experts");
  const auto holds = [](const char* option, int64_t ranks, int64_t width, const char* what) {
    util::require(width >= ranks, option, ranks, util::concat("at most the ", width, what));
  };
  if (layer.moe) {
    holds("--tp", share.expert_width.count, layer.moe->expert_width, " hidden units of an expert");
    if (layer.moe->shared_width > 0)
      holds("--tp", share.tensor.count, layer.moe->shared_width, " hidden units of shared experts");
  } else {
    holds("--tp", share.tensor.count, layer.dense_width, " hidden units of a dense MLP");
  }
  const AttentionConfig& attention = layer.attention;
  const int64_t ranks = share.tensor.count, kv_heads = attention.kv_heads;
  divides("--tp", ranks, attention.heads, " attention heads");
  if (attention.kind == AttentionKind::gqa)
    util::require(
        kv_heads % ranks == 0 || ranks % kv_heads == 0, "--tp", ranks,
        util::concat("a divisor or a multiple of the model's ", kv_heads, " key-value heads"));
}

}  // namespace

Fraction kv_heads(const AttentionConfig& attention, const Fraction& tensor) {
  const int64_t heads = attention.kv_heads;
  if (heads >= tensor.count) return tensor;
  return {tensor.index * heads / tensor.count, heads};
}

LayerConfig local_layer(const LayerConfig& layer, const Share& share) {
  LayerConfig local = layer;
  AttentionConfig& attention = local.attention;
  attention.heads = share.tensor.size(attention.heads);
  if (attention.kind == AttentionKind::gqa)
    attention.kv_heads = kv_heads(layer.attention, share.tensor).size(attention.kv_heads);
  local.dense_width = share.tensor.size(layer.dense_width);
  if (local.moe) {
    local.moe->expert_width = share.expert_width.size(layer.moe->expert_width);
    local.moe->shared_width = share.tensor.size(layer.moe->shared_width);
  }
  return local;
}

ModelConfig local_config(const ModelConfig& config, const Share& share) {
  check_share(config, share);
  ModelConfig local = config;
  for (LayerConfig& layer : local.layers) layer = local_layer(layer, share);
  return local;
}

void check_share(const ModelConfig& config, const Share& share) {
  for (const LayerConfig& layer : config.layers) check(layer, share);
  for (const Fraction& rows : {share.embedding, share.head})
    util::require(rows.count <= config.vocabulary, "--tp", rows.count,
                  util::concat("at most the vocabulary's ", config.vocabulary));
}

}  // namespace farskip::model
