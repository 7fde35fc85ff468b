#include "model/attention.h"

#include <ATen/ATen.h>

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
  return x.view({x.size(0), heads, -1});
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

PreparedAttention prepare_latent(const at::Tensor& h, const AttentionWeights& w,
                                 const AttentionConfig& c, const RopeTable& rope) {
  at::Tensor q =
      c.q_rank == 0
          ? linear(h, w.q, {})
          : linear(rms_norm(linear(h, w.q_a, w.q_a_bias), w.q_a_norm, c.norm_eps), w.q_b, {});
  q = split_heads(q, c.heads);
  const at::Tensor q_rope =
      model::rope(columns(q, c.nope_dim, c.rope_dim), rope.cos, rope.sin, c.rope.interleaved);
  const at::Tensor kv = linear(h, w.kv_a, w.kv_a_bias);
  PreparedAttention prepared;
  prepared.q = at::cat({columns(q, 0, c.nope_dim), q_rope}, -1);
  prepared.latent = rms_norm(columns(kv, 0, c.kv_rank), w.kv_a_norm, c.norm_eps);
  prepared.k_rope = model::rope(columns(kv, c.kv_rank, c.rope_dim).unsqueeze(1), rope.cos, rope.sin,
                                c.rope.interleaved);
  return prepared;
}

PreparedAttention prepare_grouped(const at::Tensor& h, const AttentionWeights& w,
                                  const AttentionConfig& c, const RopeTable& rope) {
  at::Tensor q = split_heads(linear(h, w.q, w.q_bias), c.heads);
  at::Tensor k = split_heads(linear(h, w.k, w.k_bias), c.kv_heads);
  if (c.qk_norm) {
    q = rms_norm(q, w.q_norm, c.norm_eps);
    k = rms_norm(k, w.k_norm, c.norm_eps);
  }
  PreparedAttention prepared;
  prepared.q = model::rope(q, rope.cos, rope.sin, c.rope.interleaved);
  prepared.k = model::rope(k, rope.cos, rope.sin, c.rope.interleaved);
  prepared.v = split_heads(linear(h, w.v, w.v_bias), c.kv_heads);
  return prepared;
}

/// Rows of a cache tensor [pages, page_tokens, heads, dim], one a token.
at::Tensor cache_rows(const at::Tensor& cache) {
  return cache.view({cache.size(0) * cache.size(1), -1});
}

void keep(const PreparedAttention& p, const AttentionConfig& c, const AttentionContext& context) {
  const at::Tensor keys = cache_rows(context.cache->keys);
  if (c.kind == AttentionKind::mla) {
    kernels::put_rows(keys, 0, context.cache_rows, p.latent);
    kernels::put_rows(keys, c.kv_rank, context.cache_rows, p.k_rope);
  } else {
    kernels::put_rows(keys, 0, context.cache_rows, p.k);
    kernels::put_rows(cache_rows(context.cache->values), 0, context.cache_rows, p.v);
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

/// Segments that can be worked on together, cut off the front of those from `first` on.
Run next_run(const Batch& batch, size_t first, int64_t row) {
  const auto segments = std::span(batch.segments).subspan(first);
  const Segment& front = segments.front();
  const auto alike = [&](const Segment& other) {
    if (front.past > 0) return front.count == 1 && other.past > 0 && other.count == 1;
    return other.past == 0 && other.count == front.count;
  };
  size_t length = 1;
  while (length < segments.size() && alike(segments[length])) ++length;
  return {segments.first(length), row, static_cast<int64_t>(length) * front.count};
}

}  // namespace

PreparedAttention attention_prepare(const at::Tensor& h, const AttentionWeights& weights,
                                    const AttentionConfig& config,
                                    const AttentionContext& context) {
  PreparedAttention prepared = config.kind == AttentionKind::mla
                                   ? prepare_latent(h, weights, config, context.rope)
                                   : prepare_grouped(h, weights, config, context.rope);
  if (config.gated) prepared.gate = linear(h, weights.gate, {}).sigmoid();
  if (context.cache) keep(prepared, config, context);
  return prepared;
}

at::Tensor attend(const PreparedAttention& p, const AttentionWeights& weights,
                  const AttentionConfig& config, const AttentionContext& context) {
  std::vector<at::Tensor> outputs;
  int64_t row = 0;
  for (size_t first = 0; first < context.batch.segments.size();) {
    const Run run = next_run(context.batch, first, row);
    const Segment& segment = run.segments.front();
    if (segment.past == 0)
      outputs.push_back(from_start(p, weights, config, run));
    else if (segment.count == 1)
      outputs.push_back(decode(p, weights, config, *context.cache, run));
    else
      outputs.push_back(
          core(run.of(p.q), from_cache(segment, weights, config, *context.cache), 1, config));
    first += run.segments.size();
    row += run.count;
  }
  at::Tensor y = outputs.size() == 1 ? outputs.front() : at::cat(outputs);
  if (config.gated) y = y * p.gate;
  return linear(y, weights.output, weights.output_bias);
}

}  // namespace farskip::model
