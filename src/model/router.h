// Which experts a token goes to, and with what weight.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/config.h"
#include "model/parameter.h"

namespace farskip::model {

/// The choice for each token. Scores and weights carry gradients; the choice itself does not.
struct Routes {
  at::Tensor experts;  ///< int64 [N, k], best first; of equal scores the lowest expert first
  at::Tensor weights;  ///< [N, k] float32 (float64), or the model's dtype where the family casts
  at::Tensor scores;   ///< [N, experts] softmax or sigmoid, float32 (float64)
};

/// x [N, hidden]; weight [experts, hidden]; correction [experts] or undefined. `chosen`: experts
/// [N, k] to go to whatever the scores say; undefined: the best ones.
Routes route(const at::Tensor& x, const Parameter& weight, const Parameter& correction,
             const RouterConfig& config, const at::Tensor& chosen = {});

}  // namespace farskip::model
