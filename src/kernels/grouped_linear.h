// One linear map an expert over rows grouped by expert.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace farskip::kernels {

/// x [R,K], rows offsets[e] .. offsets[e+1] belong to expert e; weight [E,M,K] -> [R,M].
at::Tensor grouped_linear(const at::Tensor& x, const std::vector<int64_t>& offsets,
                          const at::Tensor& weight);

/// grad [R,M], weight [E,M,K] -> [R,K]: the input's gradient.
at::Tensor grouped_linear_transposed(const at::Tensor& grad, const std::vector<int64_t>& offsets,
                                     const at::Tensor& weight);

/// accumulator[e] += grad_e^T x_e, accumulator [E,M,K] in opmath dtype. Below float64 the product
/// of one call is rounded to the inputs' dtype before it is added.
void grouped_weight_gradient(const at::Tensor& grad, const at::Tensor& x,
                             const std::vector<int64_t>& offsets, const at::Tensor& accumulator);

}  // namespace farskip::kernels
