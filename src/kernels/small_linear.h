// Linear maps of a few rows, as decoding needs them: bound by reading the weight once.
// A row's result depends neither on the number of rows beside it nor on the number of threads.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace farskip::kernels {

constexpr int64_t kSmallRows = 16;

/// Whether small_linear has a fast path here: 1 to kSmallRows rows, same dtype (bfloat16 or
/// float32), CPU, adjacent elements in each row of both.
bool small_linear_supported(const at::Tensor& x, const at::Tensor& weight);

/// x [n,K], weight [M,K] -> x weight^T, [n,M]; accumulated in opmath, rounded once.
at::Tensor small_linear(const at::Tensor& x, const at::Tensor& weight);

/// One linear map a head: x [n,B,K], weight [B,M,K] -> [n,B,M]. Any strides with adjacent last
/// elements.
at::Tensor small_batched_linear(const at::Tensor& x, const at::Tensor& weight);

/// The same with transposed weights: x [n,B,M], weight [B,M,K] -> [n,B,K].
at::Tensor small_batched_linear_transposed(const at::Tensor& x, const at::Tensor& weight);

}  // namespace farskip::kernels
