// What of a model a rank holds, and the configuration that it computes with.
#pragma once
#include <cstdint>

#include "model/config.h"

namespace farskip::model {

/// The `index`-th of `count` shares of n things that follow one another: begin(n) to end(n). They
/// are equal where count divides n, else one apart.
struct Fraction {
  int64_t index = 0;
  int64_t count = 1;

  int64_t begin(int64_t n) const { return n * index / count; }
  int64_t end(int64_t n) const { return n * (index + 1) / count; }
  int64_t size(int64_t n) const { return end(n) - begin(n); }
  bool operator==(const Fraction&) const = default;
};

/// A default one is all of the model. What no member names is held by every rank.
struct Share {
  Fraction experts;       ///< routed experts, whole ones
  Fraction expert_width;  ///< of the hidden layer of each of those
  Fraction tensor;        ///< attention's heads; hidden layers of shared experts and dense MLPs
  Fraction embedding;     ///< rows: the vocabulary
  Fraction head;          ///< rows
  // For the end of a prefill, where each rank works on some tokens (ReplicatedLayer::keys_follow):
  bool all_keys = false;      ///< gqa: keys and values of all heads of the last layer as well
  bool whole_shared = false;  ///< the whole shared experts of the layer before it as well

  /// Training: rank r of N has experts r E / N to (r + 1) E / N, and everything else.
  static Share of_experts(int64_t rank, int64_t size) { return {.experts = {rank, size}}; }
  /// Whether all that is held is held whole.
  bool only_experts() const { return *this == Share{.experts = experts}; }
  bool operator==(const Share&) const = default;
};

/// The KV heads that the query heads of `tensor` read, as a fraction of all: with fewer KV heads
/// than ranks, several ranks hold the same one.
Fraction kv_heads(const AttentionConfig& attention, const Fraction& tensor);

/// A layer with the heads and widths of the share. The router's experts stay those of the model.
LayerConfig local_layer(const LayerConfig& layer, const Share& share);
/// All layers so. InputError as check_share().
ModelConfig local_config(const ModelConfig& config, const Share& share);

/// InputError where experts, heads or KV heads can't be shared out so, or a rank would have
/// nothing.
void check_share(const ModelConfig& config, const Share& share);

}  // namespace farskip::model
