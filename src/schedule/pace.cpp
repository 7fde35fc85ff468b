#include "schedule/pace.h"

#include <algorithm>
#include <cmath>

#include "schedule/layer_work.h"

namespace farskip::schedule {

int64_t layers_beside_head(const model::ModelConfig& config, const model::ExpertRanks& ranks) {
  if (ranks.size() == 1) return 0;
  // Multiplications a token. Without those of attention's scores: how long sequences are is a
  // rank's own affair.
  double forward = 0;
  int64_t layers = 0;
  for (const model::LayerConfig& layer : config.layers) {
    forward += layer_work(layer, config.hidden, {}, ranks.size()).forward();
    layers += layer.moe.has_value();
  }
  // Its logits, and its two gradients.
  const auto head = 3 * static_cast<double>(config.hidden) * static_cast<double>(config.vocabulary);
  const int64_t beside = std::llround(std::min(head / forward, 1.0) * static_cast<double>(layers));
  return std::max<int64_t>(0, std::min(beside, layers - 1));
}

}  // namespace farskip::schedule
