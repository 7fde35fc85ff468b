#include "kernels/rms_norm.h"

#include "kernels/generic.h"

namespace farskip::kernels {

RmsNormResult rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return generic::rms_norm(x, weight, eps);
}

at::Tensor rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& x,
                             const at::Tensor& weight, const at::Tensor& rstd,
                             const at::Tensor& grad_weight_accumulator, bool need_grad_x) {
  return generic::rms_norm_backward(grad_y, x, weight, rstd, grad_weight_accumulator, need_grad_x);
}

}  // namespace farskip::kernels
