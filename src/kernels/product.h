// Matrix products in the dtype of their operands, on processors with and without bfloat16 products.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// Whether a [m,k] b [k,n] is better computed from float32 copies: of bfloat16 on a CPU that has no
/// instruction for it, where LibTorch multiplies at 5 to 6 GFLOP/s a thread and float32 at 46 to 62
/// (AMD EPYC with AVX2; docs/benchmarks/2026-11-26-messages.md), unless it has few rows or columns.
/// A copy takes as long as a product of some rows.
bool better_wide(const at::Tensor& a, const at::Tensor& b);

/// a [m,k] b [k,n] -> [m,n], accumulated in opmath, rounded once.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);
/// The same into a tensor of a's dtype.
void product_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b);
/// x [n,K], weight [M,K], bias [M] or undefined -> x weight^T + bias.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
/// sum [m,n] += a b, where the sum may be wider than the operands, whose product then is rounded to
/// their dtype first or not at all.
void add_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

}  // namespace farskip::kernels
