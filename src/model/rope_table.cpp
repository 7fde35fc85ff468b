#include "model/rope_table.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace farskip::model {

at::Tensor inverse_frequencies(const RopeConfig& rope) {
  const auto dim = static_cast<double>(rope.dim);
  const at::Tensor exponents = at::arange(0, rope.dim, 2, at::kFloat) / dim;
  const at::Tensor plain = 1.0 / at::pow(rope.theta, exponents);
  if (!rope.yarn) return plain;

  const YarnConfig& yarn = *rope.yarn;
  // The dimension that turns `turns` times within the original context.
  const auto dimension = [&](double turns) {
    return dim *
           std::log(static_cast<double>(yarn.original_positions) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = dimension(yarn.beta_fast), high = dimension(yarn.beta_slow);
  if (yarn.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  const double width = low == high ? 0.001 : high - low;
  const at::Tensor ramp = ((at::arange(rope.dim / 2, at::kFloat) - low) / width).clamp(0, 1);
  return plain * (1 - ramp) + plain / yarn.factor * ramp;
}

RopeTable rope_table(const RopeConfig& rope, const at::Tensor& positions, at::ScalarType dtype) {
  const at::Tensor angles =
      positions.to(at::kFloat).unsqueeze(1) * inverse_frequencies(rope).to(positions.device());
  const double factor = rope.yarn ? rope.yarn->attention_factor : 1;
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  return {(angles.cos() * factor).to(wide), (angles.sin() * factor).to(wide)};
}

}  // namespace farskip::model
