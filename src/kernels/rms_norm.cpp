#include "kernels/rms_norm.h"

#include <ATen/ATen.h>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/opmath.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

namespace {

at::Tensor adjacent_elements(const at::Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

// The weight's gradient is summed over blocks of rows and then over blocks; the blocks depend on
// the number of rows alone, so that the sum does not depend on the number of threads.
int64_t rows_in_block(int64_t rows) {
  return std::max<int64_t>(16, (rows + 31) / 32);
}

}  // namespace

RmsNormResult rms_norm(const at::Tensor& input, const at::Tensor& weight, double eps,
                       bool need_rstd) {
  const at::Tensor x = adjacent_elements(input);
  const int64_t rows = x.size(0);
  const int64_t size = x.size(1);
  RmsNormResult result;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor scale = weight.contiguous();
    result.y = empty({rows, size}, x.scalar_type());
    if (need_rstd) result.rstd = empty({rows}, at::kFloat);
    const T* in = isa::data<T>(x);
    const T* factors = isa::data<T>(scale);
    T* y = isa::mutable_data<T>(result.y);
    float* rstd = need_rstd ? isa::mutable_data<float>(result.rstd) : nullptr;
    parallel_for(rows, grain_for(2 * size * sizeof(T)), [&](int64_t begin, int64_t end) {
      kernels.rms_norm(in, x.stride(0), factors, y, rstd, begin, end, size,
                       static_cast<float>(eps));
    });
  });
  return done ? result : generic::rms_norm(x, weight, eps);
}

at::Tensor rms_norm_backward(const at::Tensor& grad_y, const at::Tensor& input,
                             const at::Tensor& weight, const at::Tensor& rstd,
                             const at::Tensor& grad_weight_accumulator, bool need_grad_x) {
  const at::Tensor x = adjacent_elements(input);
  const int64_t rows = x.size(0);
  const int64_t size = x.size(1);
  at::Tensor grad_x;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor grad = grad_y.contiguous();
    const at::Tensor scale = weight.contiguous();
    if (need_grad_x) grad_x = empty({rows, size}, x.scalar_type());
    const int64_t block = rows_in_block(rows);
    const int64_t blocks = (rows + block - 1) / block;
    at::Tensor parts;
    if (grad_weight_accumulator.defined()) {
      parts = at::zeros({blocks, size}, x.options().dtype(at::kFloat));
    }
    const T* gradient = isa::data<T>(grad);
    const T* in = isa::data<T>(x);
    const T* factors = isa::data<T>(scale);
    const float* scales = isa::data<float>(rstd);
    T* out = need_grad_x ? isa::mutable_data<T>(grad_x) : nullptr;
    float* sums = parts.defined() ? isa::mutable_data<float>(parts) : nullptr;
    parallel_for(blocks, grain_for(3 * block * size * sizeof(T)), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        kernels.rms_norm_backward(gradient, in, x.stride(0), factors, scales, out,
                                  sums == nullptr ? nullptr : sums + b * size, b * block,
                                  std::min(rows, (b + 1) * block), size);
      }
    });
    for (int64_t b = 0; parts.defined() && b < blocks; ++b) grad_weight_accumulator.add_(parts[b]);
  });
  if (done) return grad_x;
  return generic::rms_norm_backward(grad_y, x, weight, rstd, grad_weight_accumulator, need_grad_x);
}

}  // namespace farskip::kernels
