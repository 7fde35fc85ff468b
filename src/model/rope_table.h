// Rotary position angles.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/config.h"

namespace farskip::model {

/// Cosines and sines [tokens, dim / 2] of a forward pass, times YaRN's attention factor.
struct RopeTable {
  at::Tensor cos;
  at::Tensor sin;
};

/// theta^(-2i/dim), or YaRN's blend of it with the same over `factor` (Peng et al. 2023, eq. 17-18,
/// with the ramp of DeepSeek's code). float32 [dim / 2].
at::Tensor inverse_frequencies(const RopeConfig& rope);

/// For positions int64 [tokens]. Angles are float32 whatever the model's dtype; the result has the
/// dtype that kernels compute in: float32, or float64 for a float64 model.
RopeTable rope_table(const RopeConfig& rope, const at::Tensor& positions, at::ScalarType dtype);

}  // namespace farskip::model
