#include "schedule/layer_work.h"

#include <algorithm>
#include <cmath>

namespace farskip::schedule {
namespace {

/// Multiplications a token of attention's core and output projection, over the batch.
double attend_work(const model::AttentionConfig& a, int64_t hidden, const model::Batch& batch) {
  const auto heads = static_cast<double>(a.heads), values = heads * static_cast<double>(a.v_dim);
  const double key = heads * static_cast<double>(a.qk_dim()) + values;  // that a token looks at
  double token = values * static_cast<double>(hidden);
  if (a.kind == model::AttentionKind::mla)
    token += static_cast<double>(a.kv_rank) * heads * static_cast<double>(a.nope_dim + a.v_dim);
  double sum = 0;
  for (const model::Segment& segment : batch.segments) {
    const auto tokens = static_cast<double>(segment.count);
    sum += tokens * (token + key * (static_cast<double>(segment.past) + 0.5 * (tokens + 1)));
  }
  return sum / static_cast<double>(std::max<int64_t>(batch.size(), 1));
}

}  // namespace

LayerWork layer_work(const model::LayerConfig& layer, int64_t hidden, const model::Batch& batch,
                     int64_t ranks) {
  const model::AttentionConfig& a = layer.attention;
  const auto width = static_cast<double>(hidden);
  const auto queries = static_cast<double>(a.heads * a.qk_dim());
  const auto values = static_cast<double>(a.heads * a.v_dim);
  LayerWork work;
  work.attend = attend_work(a, hidden, batch);
  if (a.kind == model::AttentionKind::mla) {
    const auto latent = static_cast<double>(a.kv_rank), q_rank = static_cast<double>(a.q_rank);
    work.prepare = width * (latent + static_cast<double>(a.rope_dim)) +
                   (a.q_rank == 0 ? width * queries : q_rank * (width + queries));
  } else {
    work.prepare = width * (queries + static_cast<double>(a.kv_heads * (a.qk_dim() + a.v_dim)));
  }
  if (a.gated) work.prepare += width * values;

  work.dense = layer.moe ? 0 : 3 * width * static_cast<double>(layer.dense_width);
  if (!layer.moe) return work;
  const auto top_k = static_cast<double>(layer.moe->router.top_k);
  const auto others = static_cast<double>(ranks - 1), all = static_cast<double>(ranks);
  work.shared = 3 * width * static_cast<double>(layer.moe->shared_width);
  work.experts = 3 * width * static_cast<double>(layer.moe->expert_width) * top_k;
  // On one rank nothing travels; the proportion is that of many ranks.
  work.combine_rows = ranks > 1 ? top_k * others / all : top_k;
  work.dispatch_rows = ranks > 1 ? others * (1 - std::pow(others / all, top_k)) : top_k;
  return work;
}

}  // namespace farskip::schedule
