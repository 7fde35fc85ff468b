// The routed experts of a few tokens in one call, for decoding.
#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace farskip::kernels {

/// x [n,H], n <= kSmallRows; gate_up [E,2F,H]; down [E,H,F]; experts int64 [n,k]; weights [n,k].
/// The E experts are those from `first` on; others add nothing. Returns [n,H]. Rounds where the
/// general path does: gate_up's output, swiglu, down's output, combine. A token's result does not
/// depend on the tokens beside it.
at::Tensor small_experts(const at::Tensor& x, const at::Tensor& gate_up, const at::Tensor& down,
                         const at::Tensor& experts, const at::Tensor& weights,
                         Accumulate accumulate, int64_t first = 0);

}  // namespace farskip::kernels
