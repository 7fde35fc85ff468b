#include "model/kv_cache.h"

#include <ATen/ATen.h>

namespace farskip::model {

KvCache::KvCache(const ModelConfig& config, int64_t slots, int64_t capacity,
                 at::TensorOptions options)
    : capacity_(capacity) {
  for (const LayerConfig& layer : config.layers) {
    const AttentionConfig& attention = layer.attention;
    LayerCache cache;
    if (attention.kind == AttentionKind::mla) {
      cache.keys = at::zeros({slots, capacity, 1, attention.cache_width()}, options);
      cache.values = cache.keys.narrow(-1, 0, attention.kv_rank);
    } else {
      cache.keys = at::zeros({slots, capacity, attention.kv_heads, attention.qk_dim()}, options);
      cache.values = at::zeros({slots, capacity, attention.kv_heads, attention.v_dim}, options);
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
