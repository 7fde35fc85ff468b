// What attention keeps of past tokens.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/config.h"

namespace farskip::model {

/// One layer's cache. gqa: keys and values [pages, page_tokens, kv_heads, dim]. mla: keys [pages,
/// page_tokens, 1, kv_rank + rope_dim], the normed latent and then the rotated rope key that all
/// heads share; values is a view of the latent part, so nothing is kept twice.
struct LayerCache {
  at::Tensor keys;
  at::Tensor values;
};

/// Fixed memory in pages of `page_tokens` tokens, of which a sequence has any, in any order (Kwon
/// et al. 2023, PagedAttention).
class KvCache {
 public:
  KvCache(const ModelConfig& config, int64_t pages, int64_t page_tokens, at::TensorOptions options);

  LayerCache& layer(int64_t index) { return layers_.at(index); }
  int64_t pages() const { return pages_; }
  int64_t page_tokens() const { return page_tokens_; }
  /// Bytes that one token takes over all layers, for elements of `element_size` bytes.
  static int64_t bytes_per_token(const ModelConfig& config, int64_t element_size);

 private:
  std::vector<LayerCache> layers_;
  int64_t pages_ = 0, page_tokens_ = 0;
};

}  // namespace farskip::model
