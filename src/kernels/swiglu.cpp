#include "kernels/swiglu.h"

#include <ATen/ATen.h>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

at::Tensor swiglu(const at::Tensor& gate_up) {
  const int64_t rows = gate_up.size(0);
  const int64_t width = gate_up.size(1) / 2;
  at::Tensor y;
  const bool done = isa::with_kernels(gate_up, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor dense = gate_up.contiguous();
    y = empty({rows, width}, dense.scalar_type());
    const T* in = isa::data<T>(dense);
    T* out = isa::mutable_data<T>(y);
    parallel_for(rows, grain_for(3 * width * sizeof(T)),
                 [&](int64_t begin, int64_t end) { kernels.swiglu(in, out, begin, end, width); });
  });
  return done ? y : generic::swiglu(gate_up);
}

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  const int64_t rows = gate_up.size(0);
  const int64_t width = gate_up.size(1) / 2;
  at::Tensor result;
  const bool done = isa::with_kernels(gate_up, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor dense = gate_up.contiguous();
    const at::Tensor dense_grad = grad.contiguous();
    result = empty({rows, 2 * width}, dense.scalar_type());
    const T* in = isa::data<T>(dense);
    const T* gradient = isa::data<T>(dense_grad);
    T* out = isa::mutable_data<T>(result);
    parallel_for(rows, grain_for(5 * width * sizeof(T)), [&](int64_t begin, int64_t end) {
      kernels.swiglu_backward(gradient, in, out, begin, end, width);
    });
  });
  return done ? result : generic::swiglu_backward(grad, gate_up);
}

}  // namespace farskip::kernels
