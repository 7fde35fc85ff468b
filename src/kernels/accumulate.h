// Adding a product to the gradient that it belongs to.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// into += addend, of the same shape; into float32 (or float64), addend of any floating dtype.
/// Where both are contiguous it is one pass without a widened copy of the addend.
void accumulate(const at::Tensor& into, const at::Tensor& addend);

}  // namespace farskip::kernels
