#include "model/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "kernels/dispatch.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

RopeTable rows_of(const RopeTable& rope, int64_t begin, int64_t count) {
  if (count == rope.cos.size(0)) return rope;
  return {rope.cos.narrow(0, begin, count), rope.sin.narrow(0, begin, count)};
}

/// q of the normed inputs hq, whose angles are `rope`'s.
at::Tensor latent_queries(const at::Tensor& hq, const AttentionWeights& w, const AttentionConfig& c,
                          const RopeTable& rope) {
  at::Tensor q =
      c.q_rank == 0
          ? linear(hq, w.q, {})
          : linear(rms_norm(linear(hq, w.q_a, w.q_a_bias), w.q_a_norm, c.norm_eps), w.q_b, {});
  q = split_heads(q, c.heads);
  const at::Tensor q_rope =
      model::rope(columns(q, c.nope_dim, c.rope_dim), rope.cos, rope.sin, c.rope.interleaved);
  return at::cat({columns(q, 0, c.nope_dim), q_rope}, -1);
}

void latent_keys(PreparedAttention& prepared, const at::Tensor& h, const AttentionWeights& w,
                 const AttentionConfig& c, const RopeTable& rope) {
  const at::Tensor kv = linear(h, w.kv_a, w.kv_a_bias);
  prepared.latent = rms_norm(columns(kv, 0, c.kv_rank), w.kv_a_norm, c.norm_eps);
  prepared.k_rope = model::rope(columns(kv, c.kv_rank, c.rope_dim).unsqueeze(1), rope.cos, rope.sin,
                                c.rope.interleaved);
}

at::Tensor grouped_queries(const at::Tensor& hq, const AttentionWeights& w,
                           const AttentionConfig& c, const RopeTable& rope) {
  at::Tensor q = split_heads(linear(hq, w.q, w.q_bias), c.heads);
  if (c.qk_norm) q = rms_norm(q, w.q_norm, c.norm_eps);
  return model::rope(q, rope.cos, rope.sin, c.rope.interleaved);
}

/// Of the heads that w has.
void grouped_keys(PreparedAttention& prepared, const at::Tensor& h, const KeyValueWeights& w,
                  const Parameter& norm, const AttentionConfig& c, const RopeTable& rope) {
  const int64_t heads = w.v.value.size(0) / c.v_dim;
  at::Tensor k = split_heads(linear(h, w.k, w.k_bias), heads);
  if (c.qk_norm) k = rms_norm(k, norm, c.norm_eps);
  prepared.k = model::rope(k, rope.cos, rope.sin, c.rope.interleaved);
  prepared.v = split_heads(linear(h, w.v, w.v_bias), heads);
}

/// Rows of a cache tensor [pages, page_tokens, heads, dim], one a token.
at::Tensor cache_rows(const at::Tensor& cache) {
  return cache.view({cache.size(0) * cache.size(1), -1});
}

void keep(const PreparedAttention& p, const AttentionConfig& c, const LayerCache& cache,
          const at::Tensor& rows) {
  const at::Tensor keys = cache_rows(cache.keys);
  if (c.kind == AttentionKind::mla) {
    kernels::put_rows(keys, 0, rows, p.latent);
    kernels::put_rows(keys, c.kv_rank, rows, p.k_rope);
  } else {
    kernels::put_rows(keys, 0, rows, p.k);
    kernels::put_rows(cache_rows(cache.values), 0, rows, p.v);
  }
}

}  // namespace

Queries queries_of(const Batch& batch, const RopeTable& rope, const at::Tensor& rows) {
  Queries queries{rows, {rope.cos.index_select(0, rows), rope.sin.index_select(0, rows)}, {}};
  std::vector<int64_t> begins;  // of the batch's segments
  int64_t row = 0;
  for (const Segment& segment : batch.segments) {
    begins.push_back(row);
    row += segment.count;
  }
  const at::Tensor on_cpu = rows.cpu().contiguous();
  int64_t next = -1;  // the row that would go on with the last segment
  for (const int64_t one : std::span(on_cpu.const_data_ptr<int64_t>(), on_cpu.numel())) {
    const auto of = std::upper_bound(begins.begin(), begins.end(), one) - begins.begin() - 1;
    if (one == next && one != begins[of]) {
      ++queries.segments.back().count;
    } else {
      const Segment& segment = batch.segments[of];
      queries.segments.push_back({segment.past + one - begins[of], 1, segment.pages});
    }
    next = one + 1;
  }
  return queries;
}

void prepare_keys(PreparedAttention& prepared, const at::Tensor& h, const AttentionWeights& weights,
                  const AttentionConfig& config, const AttentionContext& context, int64_t begin) {
  const RopeTable rope = rows_of(context.rope, begin, h.size(0));
  if (config.kind == AttentionKind::mla)
    latent_keys(prepared, h, weights, config, rope);
  else
    grouped_keys(prepared, h, weights.kv, weights.k_norm, config, rope);
  if (context.cache)
    keep(prepared, config, *context.cache, context.cache_rows.narrow(0, begin, h.size(0)));
}

at::Tensor keys_of(const at::Tensor& h, const at::Tensor& rows, const AttentionWeights& weights,
                   const AttentionConfig& config, const AttentionContext& context) {
  const RopeTable rope{context.rope.cos.index_select(0, rows),
                       context.rope.sin.index_select(0, rows)};
  PreparedAttention prepared;
  if (config.kind == AttentionKind::mla) {
    latent_keys(prepared, h, weights, config, rope);
    return at::cat({prepared.latent, prepared.k_rope.squeeze(1)}, 1);
  }
  grouped_keys(prepared, h, weights.all_kv, weights.k_norm, config, rope);
  return at::cat({prepared.k.flatten(1), prepared.v.flatten(1)}, 1);
}

void keep_keys(const at::Tensor& keys, const AttentionConfig& all, const Fraction& tensor,
               const AttentionContext& context, int64_t begin) {
  const at::Tensor rows = context.cache_rows.narrow(0, begin, keys.size(0));
  const at::Tensor cache = cache_rows(context.cache->keys);
  if (all.kind == AttentionKind::mla) return kernels::put_rows(cache, 0, rows, keys);
  const Fraction own = kv_heads(all, tensor);
  const int64_t first = own.begin(all.kv_heads), heads = own.size(all.kv_heads);
  kernels::put_rows(cache, 0, rows, columns(keys, first * all.qk_dim(), heads * all.qk_dim()));
  kernels::put_rows(
      cache_rows(context.cache->values), 0, rows,
      columns(keys, all.kv_heads * all.qk_dim() + first * all.v_dim, heads * all.v_dim));
}

void prepare_queries(PreparedAttention& prepared, const at::Tensor& h,
                     const AttentionWeights& weights, const AttentionConfig& config,
                     const AttentionContext& context, int64_t begin) {
  const RopeTable rope =
      rows_of(context.queries ? context.queries->rope : context.rope, begin, h.size(0));
  prepared.q = (config.kind == AttentionKind::mla ? latent_queries : grouped_queries)(h, weights,
                                                                                      config, rope);
  if (config.gated) prepared.gate = linear(h, weights.gate, {}).sigmoid();
}

PreparedAttention joined(const std::vector<PreparedAttention>& parts) {
  PreparedAttention whole;
  for (const auto field :
       {&PreparedAttention::q, &PreparedAttention::k, &PreparedAttention::v,
        &PreparedAttention::latent, &PreparedAttention::k_rope, &PreparedAttention::gate}) {
    std::vector<at::Tensor> tensors;
    for (const PreparedAttention& part : parts)
      if ((part.*field).defined()) tensors.push_back(part.*field);
    if (!tensors.empty()) whole.*field = at::cat(tensors);
  }
  return whole;
}

PreparedAttention attention_prepare(const at::Tensor& h, const AttentionWeights& weights,
                                    const AttentionConfig& config,
                                    const AttentionContext& context) {
  PreparedAttention prepared;
  const Queries* queries = context.queries;
  prepare_queries(prepared, queries ? h.index_select(0, queries->rows) : h, weights, config,
                  context);
  prepare_keys(prepared, h, weights, config, context);
  return prepared;
}

}  // namespace farskip::model
