// The trained functions of the model. Their backward adds weight gradients to Parameter::gradient
// (see parameter.h) and lets only the input gradient travel through autograd. Without gradients
// they call the kernels directly. Tensors are [tokens, features]; shapes are the caller's promise.
#pragma once
#include <vector>

#include "kernels/dispatch.h"
#include "model/parameter.h"

namespace farskip::model {

/// x [N, heads dim] -> [N, heads, dim]
inline at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), heads, x.size(1) / heads});  // also of no rows
}

/// Elements begin .. begin + count of the last dimension. Without gradients as one view instead of
/// the three calls that narrow makes: decoding makes a dozen a layer.
at::Tensor columns(const at::Tensor& x, int64_t begin, int64_t count);

/// x [N, in] W^T + b, W [out, in]; b may be undefined. -> [N, out]
at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias);

/// RMSNorm over the last dimension of x [..., H]: statistics in float32, rounded to x's dtype, then
/// times the weight.
at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps);

/// Rows of the table [vocabulary, H] for tokens int64 [N].
at::Tensor embedding(const at::Tensor& tokens, const Parameter& table);

/// silu(gate) * up of gate_up [N, 2F] = gate | up. -> [N, F]
at::Tensor swiglu(const at::Tensor& gate_up);

/// Rotates x [N, heads, dim] by the angles whose cosines and sines are [N, dim / 2].
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                bool interleaved);

/// A copy of each token's row for each expert that it chose, grouped by expert. -> [N k, H]
at::Tensor gather_rows(const at::Tensor& x, const kernels::Plan& plan);

/// Expert e's weight [E, out, in] on its rows of x [N k, in]. -> [N k, out]
at::Tensor grouped_linear(const at::Tensor& x, const kernels::Plan& plan, const Parameter& weight);

/// Every token's weighted sum of its experts' outputs [N k, H], in the order of the experts.
/// weights [N, k]. -> [N, H]
at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const kernels::Plan& plan,
                   kernels::Accumulate accumulate);

}  // namespace farskip::model
