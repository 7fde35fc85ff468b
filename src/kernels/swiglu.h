// SwiGLU (Shazeer 2020) on a fused projection: silu(gate) * up.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// gate_up [N,2F] holds gate | up; returns [N,F]. silu is computed in opmath and rounded to the
/// dtype, then multiplied with up and rounded again (Hugging Face's rounding points).
at::Tensor swiglu(const at::Tensor& gate_up);

/// The gradient of gate_up, [N,2F], from grad [N,F].
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up);

}  // namespace farskip::kernels
