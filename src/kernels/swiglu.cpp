#include "kernels/swiglu.h"

#include "kernels/generic.h"

namespace farskip::kernels {

at::Tensor swiglu(const at::Tensor& gate_up) {
  return generic::swiglu(gate_up);
}

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  return generic::swiglu_backward(grad, gate_up);
}

}  // namespace farskip::kernels
