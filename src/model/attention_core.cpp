#include "model/attention_core.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "kernels/causal_attention.h"
#include "kernels/decode_attention.h"
#include "kernels/small_linear.h"
#include "model/differentiable.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

/// Rows of kv_b [heads, nope + v, kv_rank] of latent attention: of the nope keys (from 0 on), or of
/// the values (from nope on).
at::Tensor kv_b_rows(const at::Tensor& kv_b, const AttentionConfig& c, int64_t begin,
                     int64_t count) {
  const int64_t rows = c.nope_dim + c.v_dim;
  return kv_b.as_strided({c.heads, count, c.kv_rank}, {rows * c.kv_rank, c.kv_rank, 1},
                         kv_b.storage_offset() + begin * c.kv_rank);
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

/// How a segment's attention is computed.
enum class Way { from_start, decode, from_cache };

Way way_of(const Segment& segment, const AttentionContext& context) {
  // The keys of other tokens than the queries' lie in the cache.
  if (segment.past == 0 && !context.queries) return Way::from_start;
  return segment.count == 1 ? Way::decode : Way::from_cache;
}

}  // namespace

/// Some whole segments that follow one another, and the rows of their tokens.
struct AttentionCore::Run {
  std::span<const Segment> segments;
  int64_t row, count;
  at::Tensor of(const at::Tensor& x) const {
    return count == x.size(0) ? x : x.narrow(0, row, count);
  }
};

AttentionCore::AttentionCore(PreparedAttention prepared, const AttentionWeights& weights,
                             const AttentionConfig& config, const AttentionContext& context)
    : prepared_(std::move(prepared)),
      weights_(weights),
      config_(config),
      context_(context),
      segments_(context.queries ? context.queries->segments : context.batch.segments) {}

at::Tensor AttentionCore::rows(int64_t begin, int64_t count) {
  const int64_t end = begin + count;
  std::vector<at::Tensor> outputs;
  int64_t row = 0;  // of the segment
  for (size_t s = 0; s < segments_.size() && row < end;) {
    const int64_t length = segments_[s].count;
    const int64_t from = std::max(begin, row), to = std::min(end, row + length);
    if (to - from == length) {
      const Run run = next_run(s, row, end);
      outputs.push_back(whole(run));
      s += run.segments.size();
      row += run.count;
      continue;
    }
    if (from < to) outputs.push_back(part(s, row, from - row, to - from));
    ++s;
    row += length;
  }
  if (outputs.empty()) outputs.push_back(prepared_.q.new_empty({0, config_.heads * config_.v_dim}));
  at::Tensor y = outputs.size() == 1 ? outputs.front() : at::cat(outputs);
  if (config_.gated)
    y = y * (count == size() ? prepared_.gate : prepared_.gate.narrow(0, begin, count));
  return linear(y, weights_.output, weights_.output_bias);
}

/// Segments that can be worked on together: from `first` on, whose tokens begin at `row`, to `end`.
AttentionCore::Run AttentionCore::next_run(size_t first, int64_t row, int64_t end) const {
  const auto segments = std::span(segments_).subspan(first);
  const Segment& front = segments.front();
  const Way way = way_of(front, context_);
  const auto alike = [&](const Segment& other) {
    return way != Way::from_cache && way_of(other, context_) == way && other.count == front.count;
  };
  size_t length = 1;
  while (length < segments.size() && alike(segments[length]) &&
         row + static_cast<int64_t>(length + 1) * front.count <= end)
    ++length;
  return {segments.first(length), row, static_cast<int64_t>(length) * front.count};
}

at::Tensor AttentionCore::whole(const Run& run) const {
  const Segment& front = run.segments.front();
  switch (way_of(front, context_)) {
    case Way::decode:
      return decode(run);
    case Way::from_cache:
      return core(run.of(prepared_.q), keys_values(run), 1, config_);
    case Way::from_start:
      break;
  }
  return core(run.of(prepared_.q), new_keys_values(run), static_cast<int64_t>(run.segments.size()),
              config_);
}

/// One new token a sequence. Latent attention stays in the latent space: queries are multiplied
/// into it and outputs out of it (DeepSeek-V2, section 2.1.2), so that the cache is read as it is.
at::Tensor AttentionCore::decode(const Run& run) const {
  const AttentionConfig& c = config_;
  const LayerCache& cache = *context_.cache;
  std::vector<kernels::CachedSequence> sequences;
  for (const Segment& segment : run.segments)
    sequences.push_back({segment.pages, segment.past + 1});
  at::Tensor q = run.of(prepared_.q);
  if (c.kind == AttentionKind::gqa)
    return kernels::decode_attention(q, cache.keys, cache.values, sequences, c.softmax_scale)
        .flatten(1);
  const at::Tensor& kv_b = weights_.kv_b.value;
  const at::Tensor q_latent = kernels::small_batched_linear_transposed(
      columns(q, 0, c.nope_dim), kv_b_rows(kv_b, c, 0, c.nope_dim));
  q = at::cat({q_latent, columns(q, c.nope_dim, c.rope_dim)}, -1);
  const at::Tensor y =
      kernels::decode_attention(q, cache.keys, cache.values, sequences, c.softmax_scale);
  return kernels::small_batched_linear(y, kv_b_rows(kv_b, c, c.nope_dim, c.v_dim)).flatten(1);
}

/// `count` tokens after the first `skip` of a segment's, which begin at `row`.
at::Tensor AttentionCore::part(size_t segment, int64_t row, int64_t skip, int64_t count) {
  const Segment& whole = segments_[segment];
  if (!of_cut_ || cut_ != segment) of_cut_ = keys_values({{&whole, 1}, row, whole.count});
  cut_ = segment;
  const int64_t keys = whole.past + skip + count;
  return core(prepared_.q.narrow(0, row + skip, count),
              {of_cut_->k.narrow(0, 0, keys), of_cut_->v.narrow(0, 0, keys)}, 1, config_);
}

/// Everything that a run of one segment has.
KeysValues AttentionCore::keys_values(const Run& run) const {
  const Segment& segment = run.segments.front();
  if (way_of(segment, context_) == Way::from_start) return new_keys_values(run);
  const AttentionConfig& c = config_;
  const int64_t total = segment.past + segment.count;
  const at::Tensor keys = in_order(context_.cache->keys, segment.pages, total);
  if (c.kind == AttentionKind::gqa)
    return {keys, in_order(context_.cache->values, segment.pages, total)};
  const at::Tensor latents = keys.squeeze(1);
  return expanded(columns(latents, 0, c.kv_rank).contiguous(),
                  columns(latents, c.kv_rank, c.rope_dim).unsqueeze(1));
}

/// Of a run's new tokens alone.
KeysValues AttentionCore::new_keys_values(const Run& run) const {
  if (config_.kind == AttentionKind::mla)
    return expanded(run.of(prepared_.latent), run.of(prepared_.k_rope));
  return {run.of(prepared_.k), run.of(prepared_.v)};
}

/// Full keys and values from latents [N, kv_rank] and rotary keys [N, 1, rope].
KeysValues AttentionCore::expanded(const at::Tensor& latent, const at::Tensor& k_rope) const {
  const AttentionConfig& c = config_;
  const at::Tensor kv = split_heads(linear(latent, weights_.kv_b, {}), c.heads);
  return {at::cat({columns(kv, 0, c.nope_dim), k_rope.expand({-1, c.heads, -1})}, -1),
          columns(kv, c.nope_dim, c.v_dim)};
}

}  // namespace farskip::model
