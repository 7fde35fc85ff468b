#include "schedule/layer_work.h"

#include <algorithm>
#include <cmath>

namespace farskip::schedule {
namespace {

/// Keys that a new token looks at, on average.
double mean_keys(const model::Batch& batch) {
  double keys = 0;
  for (const model::Segment& segment : batch.segments)
    keys += static_cast<double>(segment.count) *
            (static_cast<double>(segment.past) + 0.5 * static_cast<double>(segment.count + 1));
  return keys / static_cast<double>(std::max<int64_t>(batch.size(), 1));
}

}  // namespace

LayerWork layer_work(const model::LayerConfig& layer, int64_t hidden, const model::Batch& batch,
                     int64_t ranks) {
  const model::AttentionConfig& a = layer.attention;
  const auto width = static_cast<double>(hidden);
  const auto queries = static_cast<double>(a.heads * a.qk_dim());
  const auto values = static_cast<double>(a.heads * a.v_dim);
  LayerWork work;
  work.attend = mean_keys(batch) * (queries + values) + values * width;
  if (a.kind == model::AttentionKind::mla) {
    const auto latent = static_cast<double>(a.kv_rank), q_rank = static_cast<double>(a.q_rank);
    work.prepare = width * (latent + static_cast<double>(a.rope_dim)) +
                   (a.q_rank == 0 ? width * queries : q_rank * (width + queries));
    work.attend += latent * static_cast<double>(a.heads * (a.nope_dim + a.v_dim));
  } else {
    work.prepare = width * (queries + static_cast<double>(a.kv_heads * (a.qk_dim() + a.v_dim)));
  }
  if (a.gated) work.prepare += width * values;

  const auto top_k = static_cast<double>(layer.moe->router.top_k);
  const auto others = static_cast<double>(ranks - 1), all = static_cast<double>(ranks);
  work.shared = 3 * width * static_cast<double>(layer.moe->shared_width);
  // On one rank nothing travels; the proportion is that of many ranks.
  work.combine_rows = ranks > 1 ? top_k * others / all : top_k;
  work.dispatch_rows = ranks > 1 ? others * (1 - std::pow(others / all, top_k)) : top_k;
  return work;
}

}  // namespace farskip::schedule
