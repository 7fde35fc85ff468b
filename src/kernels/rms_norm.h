// Root-mean-square normalisation of rows (Zhang & Sennrich 2019) and its backward.
// Like every function of this room it records no autograd graph: autograd nodes call it.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

struct RmsNormResult {
  at::Tensor y;     ///< [N,H], contiguous, x's dtype
  at::Tensor rstd;  ///< [N], opmath dtype: 1 / sqrt(mean(x^2) + eps); undefined if not asked for
};

/// y = dtype(x * rstd) * weight, the product rounded to x's dtype again (Hugging Face's order).
/// x [N,H]: rows may be strided, elements of a row are adjacent; weight [H] in x's dtype.
RmsNormResult rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                       bool need_rstd = true);

/// Returns the gradient of x, [N,H] in x's dtype, or an undefined tensor unless need_grad_x. The
/// weight's gradient is added into grad_weight_accumulator ([H], opmath dtype) when it is defined.
at::Tensor rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& x,
                             const at::Tensor& weight, const at::Tensor& rstd,
                             const at::Tensor& grad_weight_accumulator, bool need_grad_x);

}  // namespace farskip::kernels
