// The same kernels written plainly with ATen: they define what the fast paths must compute, serve
// the dtypes and machines without one, and are what the tests compare with. Contracts are those of
// the functions of the same name in farskip::kernels.
#pragma once
#include "kernels/adamw.h"
#include "kernels/decode_attention.h"
#include "kernels/dispatch.h"
#include "kernels/rms_norm.h"
#include "kernels/top_k.h"

namespace farskip::kernels::generic {

RmsNormResult rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& x,
                             const at::Tensor& weight, const at::Tensor& rstd,
                             const at::Tensor& grad_weight_accumulator, bool need_grad_x);
at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up);
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                bool inverse);
at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& tokens);
at::Tensor scatter_rows(const at::Tensor& grad, const Plan& plan, int64_t tokens);
at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const Plan& plan,
                   Accumulate accumulate);
CombineGrad combine_backward(const at::Tensor& grad, const at::Tensor& outputs,
                             const at::Tensor& weights, const Plan& plan);
at::Tensor small_linear(const at::Tensor& x, const at::Tensor& weight);
at::Tensor small_batched_linear(const at::Tensor& x, const at::Tensor& weight);
at::Tensor small_batched_linear_transposed(const at::Tensor& x, const at::Tensor& weight);
at::Tensor small_experts(const at::Tensor& x, const at::Tensor& gate_up, const at::Tensor& down,
                         const at::Tensor& experts, const at::Tensor& weights,
                         Accumulate accumulate);
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const CachedSequence> sequences, double scale);
std::optional<int64_t> argmax(const at::Tensor& scores);
void adamw(at::Tensor value, at::Tensor master, const at::Tensor& gradient, at::Tensor m,
           at::Tensor v, const AdamWStep& step);

}  // namespace farskip::kernels::generic
