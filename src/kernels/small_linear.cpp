#include "kernels/small_linear.h"

#include "kernels/generic.h"

namespace farskip::kernels {

bool small_linear_supported(const at::Tensor& x, const at::Tensor& weight) {
  return false;
}

at::Tensor small_linear(const at::Tensor& x, const at::Tensor& weight) {
  return generic::small_linear(x, weight);
}

at::Tensor small_batched_linear(const at::Tensor& x, const at::Tensor& weight) {
  return generic::small_batched_linear(x, weight);
}

at::Tensor small_batched_linear_transposed(const at::Tensor& x, const at::Tensor& weight) {
  return generic::small_batched_linear_transposed(x, weight);
}

}  // namespace farskip::kernels
