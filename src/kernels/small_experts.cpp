#include "kernels/small_experts.h"

#include "kernels/generic.h"

namespace farskip::kernels {

at::Tensor small_experts(const at::Tensor& x, const at::Tensor& gate_up, const at::Tensor& down,
                         const at::Tensor& experts, const at::Tensor& weights,
                         Accumulate accumulate) {
  return generic::small_experts(x, gate_up, down, experts, weights, accumulate);
}

}  // namespace farskip::kernels
