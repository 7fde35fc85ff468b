#include "kernels/grouped_linear.h"

#include <ATen/ATen.h>

namespace farskip::kernels {

namespace {

// Calls f(expert, begin, end) for every expert that has rows.
template <class F>
void for_each_group(const std::vector<int64_t>& offsets, F f) {
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    if (offsets[e] < offsets[e + 1]) f(static_cast<int64_t>(e), offsets[e], offsets[e + 1]);
  }
}

}  // namespace

at::Tensor grouped_linear(const at::Tensor& x, const std::vector<int64_t>& offsets,
                          const at::Tensor& weight) {
  const at::NoGradGuard no_grad;  // mm_out takes no inputs that want gradients
  at::Tensor y = at::empty({x.size(0), weight.size(1)}, x.options());
  for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
    at::Tensor rows = y.slice(0, begin, end);
    at::mm_out(rows, x.slice(0, begin, end), weight[e].t());
  });
  return y;
}

at::Tensor grouped_linear_transposed(const at::Tensor& grad, const std::vector<int64_t>& offsets,
                                     const at::Tensor& weight) {
  const at::NoGradGuard no_grad;
  at::Tensor x = at::empty({grad.size(0), weight.size(2)}, grad.options());
  for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
    at::Tensor rows = x.slice(0, begin, end);
    at::mm_out(rows, grad.slice(0, begin, end), weight[e]);
  });
  return x;
}

void grouped_weight_gradient(const at::Tensor& grad, const at::Tensor& x,
                             const std::vector<int64_t>& offsets, const at::Tensor& accumulator) {
  const at::NoGradGuard no_grad;
  for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
    const at::Tensor grad_t = grad.slice(0, begin, end).t();
    const at::Tensor rows = x.slice(0, begin, end);
    if (accumulator.scalar_type() == x.scalar_type()) {
      accumulator[e].addmm_(grad_t, rows);
    } else {
      accumulator[e].add_(at::mm(grad_t, rows));
    }
  });
}

}  // namespace farskip::kernels
