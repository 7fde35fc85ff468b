#include "engine/engine_options.h"

#include "model/kv_cache.h"
#include "util/error.h"

namespace farskip::engine {

int64_t page_count(const model::Model& model, const EngineOptions& options) {
  util::require(options.page_tokens > 0, "page", util::concat(options.page_tokens, " tokens"),
                "at least one");
  const int64_t page_bytes = cache_bytes(model, 1, 1, options.page_tokens);
  util::require(options.cache_bytes >= page_bytes, "KV cache",
                util::concat(options.cache_bytes, " bytes"),
                util::concat("at least a page of ", page_bytes));
  return options.cache_bytes / page_bytes;
}

int64_t cache_bytes(const model::Model& model, int64_t sequences, int64_t tokens,
                    int64_t page_tokens) {
  const int64_t page =
      page_tokens * model::KvCache::bytes_per_token(model.config, c10::elementSize(model.dtype));
  return sequences * ((tokens + page_tokens - 1) / page_tokens) * page;
}

}  // namespace farskip::engine
