#include "model/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "kernels/causal_attention.h"
#include "kernels/decode_attention.h"
#include "kernels/dispatch.h"
#include "kernels/small_linear.h"
#include "model/differentiable.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

/// Keys and values of whole sequences, head by head.
struct KeysValues {
  at::Tensor k;  ///< [N, heads or kv_heads, qk_dim]
  at::Tensor v;  ///< [N, heads or kv_heads, v_dim]
};

at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), heads, x.size(1) / heads});  // also of no rows
}

/// Elements begin .. begin + count of the last dimension. Without gradients as one view instead of
/// the three calls that narrow makes: decoding makes a dozen a layer.
at::Tensor columns(const at::Tensor& x, int64_t begin, int64_t count) {
  if (needs_graph(x)) return x.narrow(-1, begin, count);
  at::DimVector sizes(x.sizes());
  sizes.back() = count;
  return x.as_strided(sizes, x.strides(), x.storage_offset() + begin * x.stride(-1));
}

/// Rows of kv_b [heads, nope + v, kv_rank] of latent attention: of the nope keys (from 0 on), or of
/// the values (from nope on).
at::Tensor kv_b_rows(const at::Tensor& kv_b, const AttentionConfig& c, int64_t begin,
                     int64_t count) {
  const int64_t rows = c.nope_dim + c.v_dim;
  return kv_b.as_strided({c.heads, count, c.kv_rank}, {rows * c.kv_rank, c.kv_rank, 1},
                         kv_b.storage_offset() + begin * c.kv_rank);
}

/// Full keys and values from latents [N, kv_rank] and rotary keys [N, 1, rope].
KeysValues expand_latent(const at::Tensor& latent, const at::Tensor& k_rope,
                         const AttentionWeights& w, const AttentionConfig& c) {
  const at::Tensor kv = split_heads(linear(latent, w.kv_b, {}), c.heads);
  return {at::cat({columns(kv, 0, c.nope_dim), k_rope.expand({-1, c.heads, -1})}, -1),
          columns(kv, c.nope_dim, c.v_dim)};
}

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

void grouped_keys(PreparedAttention& prepared, const at::Tensor& h, const AttentionWeights& w,
                  const AttentionConfig& c, const RopeTable& rope) {
  at::Tensor k = split_heads(linear(h, w.k, w.k_bias), c.kv_heads);
  if (c.qk_norm) k = rms_norm(k, w.k_norm, c.norm_eps);
  prepared.k = model::rope(k, rope.cos, rope.sin, c.rope.interleaved);
  prepared.v = split_heads(linear(h, w.v, w.v_bias), c.kv_heads);
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

/// The kernel of kernels/causal_attention.h with its gradients.
at::Tensor causal_attention(const at::Tensor& q, const KeysValues& kv, int64_t rows, double scale) {
  if (!needs_graph(q, kv.k, kv.v)) return kernels::causal_attention(q, kv.k, kv.v, rows, scale).y;
  auto forward = std::make_shared<kernels::CausalAttention>();
  return differentiable(
      [&] {
        *forward = kernels::causal_attention(q, kv.k, kv.v, rows, scale);
        return std::exchange(forward->y, forward->y.detach());
      },
      [q, kv, forward, rows, scale](const at::Tensor& dy) -> InputGradients {
        auto d = kernels::causal_attention_backward(dy, q, kv.k, kv.v, *forward, rows, scale);
        return {d.q, d.k, d.v};
      },
      q, kv.k, kv.v);
}

/// softmax(q k^T) v of `rows` sequences of equal length; q, k and v [rows * length, heads, dim].
/// The queries are the last ones of the keys' positions. -> [rows * q_length, heads * v_dim]
at::Tensor core(const at::Tensor& q, KeysValues kv, int64_t rows, const AttentionConfig& c) {
  if (kernels::causal_attention_supported(q, kv.k, kv.v))
    return causal_attention(q, kv, rows, c.softmax_scale);
  const auto heads_first = [&](const at::Tensor& x) {
    return x.view({rows, -1, x.size(1), x.size(2)}).transpose(1, 2);
  };
  at::Tensor query = heads_first(q), key = heads_first(kv.k), value = heads_first(kv.v);
  if (key.size(1) != query.size(1)) {
    const int64_t group = query.size(1) / key.size(1);
    key = key.repeat_interleave(group, 1);
    value = value.repeat_interleave(group, 1);
  }
  // The fused kernel wants equal head sizes; zero columns of the values change nothing.
  const int64_t padding = key.size(-1) - value.size(-1);
  if (padding > 0) value = at::constant_pad_nd(value, {0, padding});
  if (padding < 0) {
    query = at::constant_pad_nd(query, {0, -padding});
    key = at::constant_pad_nd(key, {0, -padding});
  }
  const int64_t past = key.size(2) - query.size(2);
  std::optional<at::Tensor> mask;
  if (past > 0)
    mask = at::ones({query.size(2), key.size(2)}, query.options().dtype(at::kBool)).tril(past);
  at::Tensor y =
      at::scaled_dot_product_attention(query, key, value, mask, 0.0, past == 0, c.softmax_scale);
  if (padding > 0) y = columns(y, 0, c.v_dim);
  return y.transpose(1, 2).reshape({-1, c.heads * c.v_dim});
}

/// The tokens of some pages, one after the other.
at::Tensor in_order(const at::Tensor& cache, const std::vector<int64_t>& pages, int64_t tokens) {
  if (pages.size() == 1) return cache.select(0, pages.front()).narrow(0, 0, tokens);
  const at::Tensor index = at::tensor(pages, at::kLong).to(cache.device());
  return cache.index_select(0, index).flatten(0, 1).narrow(0, 0, tokens);
}

/// Everything that a segment has, from the cache.
KeysValues from_cache(const Segment& segment, const AttentionWeights& w, const AttentionConfig& c,
                      const LayerCache& cache) {
  const int64_t total = segment.past + segment.count;
  const at::Tensor keys = in_order(cache.keys, segment.pages, total);
  if (c.kind == AttentionKind::gqa) return {keys, in_order(cache.values, segment.pages, total)};
  const at::Tensor rows = keys.squeeze(1);
  return expand_latent(columns(rows, 0, c.kv_rank).contiguous(),
                       columns(rows, c.kv_rank, c.rope_dim).unsqueeze(1), w, c);
}

/// Some segments that follow one another, and the rows of their tokens.
struct Run {
  std::span<const Segment> segments;
  int64_t row, count;
  at::Tensor of(const at::Tensor& x) const {
    return count == x.size(0) ? x : x.narrow(0, row, count);
  }
};

/// One new token a sequence. Latent attention stays in the latent space: queries are multiplied
/// into it and outputs out of it (DeepSeek-V2, section 2.1.2), so that the cache is read as it is.
at::Tensor decode(const PreparedAttention& p, const AttentionWeights& w, const AttentionConfig& c,
                  const LayerCache& cache, const Run& run) {
  std::vector<kernels::CachedSequence> sequences;
  for (const Segment& segment : run.segments)
    sequences.push_back({segment.pages, segment.past + 1});
  at::Tensor q = run.of(p.q);
  if (c.kind == AttentionKind::gqa)
    return kernels::decode_attention(q, cache.keys, cache.values, sequences, c.softmax_scale)
        .flatten(1);
  const at::Tensor q_latent = kernels::small_batched_linear_transposed(
      columns(q, 0, c.nope_dim), kv_b_rows(w.kv_b.value, c, 0, c.nope_dim));
  q = at::cat({q_latent, columns(q, c.nope_dim, c.rope_dim)}, -1);
  const at::Tensor y =
      kernels::decode_attention(q, cache.keys, cache.values, sequences, c.softmax_scale);
  return kernels::small_batched_linear(y, kv_b_rows(w.kv_b.value, c, c.nope_dim, c.v_dim))
      .flatten(1);
}

/// Of whole sequences of one length, without a look at the cache.
at::Tensor from_start(const PreparedAttention& p, const AttentionWeights& w,
                      const AttentionConfig& c, const Run& run) {
  const KeysValues kv = c.kind == AttentionKind::mla
                            ? expand_latent(run.of(p.latent), run.of(p.k_rope), w, c)
                            : KeysValues{run.of(p.k), run.of(p.v)};
  return core(run.of(p.q), kv, static_cast<int64_t>(run.segments.size()), c);
}

/// How a segment's attention is computed.
enum class Way { from_start, decode, from_cache };

Way way_of(const Segment& segment, const AttentionContext& context) {
  // The keys of other tokens than the queries' lie in the cache.
  if (segment.past == 0 && !context.queries) return Way::from_start;
  return segment.count == 1 ? Way::decode : Way::from_cache;
}

/// Segments that can be worked on together, cut off the front of those from `first` on.
Run next_run(std::span<const Segment> all, size_t first, int64_t row,
             const AttentionContext& context) {
  const auto segments = all.subspan(first);
  const Segment& front = segments.front();
  const Way way = way_of(front, context);
  const auto alike = [&](const Segment& other) {
    return way != Way::from_cache && way_of(other, context) == way && other.count == front.count;
  };
  size_t length = 1;
  while (length < segments.size() && alike(segments[length])) ++length;
  return {segments.first(length), row, static_cast<int64_t>(length) * front.count};
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
  (config.kind == AttentionKind::mla ? latent_keys : grouped_keys)(prepared, h, weights, config,
                                                                   rope);
  if (context.cache)
    keep(prepared, config, *context.cache, context.cache_rows.narrow(0, begin, h.size(0)));
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

at::Tensor attend(const PreparedAttention& p, const AttentionWeights& weights,
                  const AttentionConfig& config, const AttentionContext& context) {
  const std::vector<Segment>& segments =
      context.queries ? context.queries->segments : context.batch.segments;
  std::vector<at::Tensor> outputs;
  int64_t row = 0;
  for (size_t first = 0; first < segments.size();) {
    const Run run = next_run(segments, first, row, context);
    switch (way_of(run.segments.front(), context)) {
      case Way::from_start:
        outputs.push_back(from_start(p, weights, config, run));
        break;
      case Way::decode:
        outputs.push_back(decode(p, weights, config, *context.cache, run));
        break;
      case Way::from_cache: {
        const KeysValues kv = from_cache(run.segments.front(), weights, config, *context.cache);
        outputs.push_back(core(run.of(p.q), kv, 1, config));
      }
    }
    first += run.segments.size();
    row += run.count;
  }
  if (outputs.empty()) outputs.push_back(p.q.new_empty({0, config.heads * config.v_dim}));
  at::Tensor y = outputs.size() == 1 ? outputs.front() : at::cat(outputs);
  if (config.gated) y = y * p.gate;
  return linear(y, weights.output, weights.output_bias);
}

}  // namespace farskip::model
