// What attention keeps of past tokens.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/config.h"

namespace farskip::model {

/// One layer's cache. gqa: keys and values [slots, capacity, kv_heads, dim]. mla: keys [slots,
/// capacity, 1, kv_rank + rope_dim], the normed latent and then the rotated rope key that all heads
/// share; values is a view of the latent part, so nothing is kept twice.
struct LayerCache {
  at::Tensor keys;
  at::Tensor values;
};

/// Fixed memory for `slots` sequences of up to `capacity` tokens.
class KvCache {
 public:
  KvCache(const ModelConfig& config, int64_t slots, int64_t capacity, at::TensorOptions options);

  LayerCache& layer(int64_t index) { return layers_.at(index); }
  int64_t capacity() const { return capacity_; }
  /// Bytes that one token takes over all layers, for elements of `element_size` bytes.
  static int64_t bytes_per_token(const ModelConfig& config, int64_t element_size);

 private:
  std::vector<LayerCache> layers_;
  int64_t capacity_ = 0;
};

}  // namespace farskip::model
