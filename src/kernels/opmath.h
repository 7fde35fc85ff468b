// The dtype in which kernels accumulate.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// float64 for float64, float32 for every smaller floating dtype.
inline at::ScalarType opmath(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}
inline at::ScalarType opmath(const at::Tensor& tensor) {
  return opmath(tensor.scalar_type());
}

}  // namespace farskip::kernels
