// The first of attention's two parts, as the schedule needs them: queries, keys and values. The
// second is attention_core.h.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/rope_table.h"
#include "model/weights.h"

namespace farskip::model {

/// The tokens of a pass whose outputs are asked for, where that is not all of them.
struct Queries {
  at::Tensor rows;  ///< int64 [n], of the batch
  RopeTable rope;
  std::vector<Segment> segments;  ///< runs of neighbours, which attend to all that the cache has
};

/// What attention needs to know of the pass beside the layer's own weights.
struct AttentionContext {
  const Batch& batch;
  const RopeTable& rope;
  LayerCache* cache = nullptr;       ///< null: no cache is read or written
  at::Tensor cache_rows;             ///< int64 [N]: page * page_tokens + place, of every token
  const Queries* queries = nullptr;  ///< needs a cache; null: all tokens, n = N
};

/// Between the two parts.
struct PreparedAttention {
  at::Tensor q;  ///< [n, heads, nope + rope]
  at::Tensor k;  ///< gqa: [N, kv_heads, dim]
  at::Tensor v;
  at::Tensor latent;  ///< mla: normed latent [N, kv_rank] ...
  at::Tensor k_rope;  ///< ... and rotated key of all heads [N, 1, rope]
  at::Tensor gate;    ///< sigmoid of the output gate [n, heads v]
};

/// Those of the batch's rows, int64 [n] in any order.
Queries queries_of(const Batch& batch, const RopeTable& rope, const at::Tensor& rows);

/// The rows from `begin` on whose normed inputs are h [n, hidden]: their keys and values, which go
/// to the cache as well, or their queries.
void prepare_keys(PreparedAttention& prepared, const at::Tensor& h, const AttentionWeights& weights,
                  const AttentionConfig& config, const AttentionContext& context,
                  int64_t begin = 0);
void prepare_queries(PreparedAttention& prepared, const at::Tensor& h,
                     const AttentionWeights& weights, const AttentionConfig& config,
                     const AttentionContext& context, int64_t begin = 0);
/// What caches keep of some of the batch's rows, int64 [n], whose normed inputs are h [n, hidden]
/// -> [n, width]: latents, or keys and then values of all heads (AttentionWeights::all_kv).
at::Tensor keys_of(const at::Tensor& h, const at::Tensor& rows, const AttentionWeights& weights,
                   const AttentionConfig& config, const AttentionContext& context);
/// Its way to the cache, from row `begin` on, of the whole attention `all` for a rank that has
/// `tensor` of its heads.
void keep_keys(const at::Tensor& keys, const AttentionConfig& all, const Fraction& tensor,
               const AttentionContext& context, int64_t begin);
/// Of rows that follow one another.
PreparedAttention joined(const std::vector<PreparedAttention>& parts);

/// h [N, hidden], the normed input. Writes the new tokens' keys and values to the cache.
PreparedAttention attention_prepare(const at::Tensor& h, const AttentionWeights& weights,
                                    const AttentionConfig& config, const AttentionContext& context);

}  // namespace farskip::model
