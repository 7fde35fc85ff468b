#include "model/kv_cache.h"

#include <ATen/ATen.h>

namespace farskip::model {

KvCache::KvCache(const ModelConfig& config, int64_t pages, int64_t page_tokens,
                 at::TensorOptions options)
    : pages_(pages), page_tokens_(page_tokens) {
  for (const LayerConfig& layer : config.layers) {
    const AttentionConfig& attention = layer.attention;
    LayerCache cache;
    if (attention.kind == AttentionKind::mla) {
      cache.keys = at::empty({pages, page_tokens, 1, attention.cache_width()}, options);
      cache.values = cache.keys.narrow(-1, 0, attention.kv_rank);
    } else {
      cache.keys = at::empty({pages, page_tokens, attention.kv_heads, attention.qk_dim()}, options);
      cache.values = at::empty({pages, page_tokens, attention.kv_heads, attention.v_dim}, options);
    }
    layers_.push_back(std::move(cache));
  }
}

int64_t KvCache::bytes_per_token(const ModelConfig& config, int64_t element_size) {
  int64_t numbers = 0;
  for (const LayerConfig& layer : config.layers) numbers += layer.attention.cache_width();
  return numbers * element_size;
}

}  // namespace farskip::model
