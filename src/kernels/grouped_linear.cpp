#include "kernels/grouped_linear.h"

#include <ATen/ATen.h>

#include "kernels/accumulate.h"

namespace farskip::kernels {

namespace {

// oneDNN (16-bit products) builds a kernel for every new number of rows, which takes as long as a
// product of about 100 rows by 1024 x 512, and keeps 1024 of them: experts with ever new numbers of
// rows would have it build for ever. So the number is rounded up to a bucket.
constexpr int64_t kBucket = 16;

int64_t bucket(const at::Tensor& x, int64_t rows) {
  return x.element_size() == 2 ? (rows + kBucket - 1) / kBucket * kBucket : rows;
}

// Rows begin .. end and zeros after them, `rows` in all.
at::Tensor padded(const at::Tensor& x, int64_t begin, int64_t end, int64_t rows) {
  if (end - begin == rows) return x.slice(0, begin, end);
  const at::Tensor result = at::empty({rows, x.size(1)}, x.options());
  result.slice(0, 0, end - begin).copy_(x.slice(0, begin, end));
  result.slice(0, end - begin).zero_();
  return result;
}

// Calls f(expert, begin, end) for every expert that has rows, in order.
template <class F>
void for_each_group(const std::vector<int64_t>& offsets, F f) {
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    if (offsets[e] < offsets[e + 1]) f(static_cast<int64_t>(e), offsets[e], offsets[e + 1]);
  }
}

// x_e factor(e) for every expert. A product of more rows than the expert has runs on into rows of
// the next experts, whose own products overwrite what it left there; only at the end is x padded.
template <class F>
at::Tensor product_of_each(const at::Tensor& x, const std::vector<int64_t>& offsets,
                           int64_t outputs, F factor) {
  const at::NoGradGuard no_grad;  // mm_out takes no inputs that want gradients
  const int64_t rows = x.size(0);
  const at::Tensor y = at::empty({rows + kBucket - 1, outputs}, x.options());
  for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
    const int64_t some = bucket(x, end - begin);
    at::Tensor out = y.slice(0, begin, begin + some);
    at::mm_out(out,
               begin + some <= rows ? x.slice(0, begin, begin + some) : padded(x, begin, end, some),
               factor(e));
  });
  return y.slice(0, 0, rows);
}

}  // namespace

at::Tensor grouped_linear(const at::Tensor& x, const std::vector<int64_t>& offsets,
                          const at::Tensor& weight) {
  return product_of_each(x, offsets, weight.size(1), [&](int64_t e) { return weight[e].t(); });
}

at::Tensor grouped_linear_transposed(const at::Tensor& grad, const std::vector<int64_t>& offsets,
                                     const at::Tensor& weight) {
  return product_of_each(grad, offsets, weight.size(2), [&](int64_t e) { return weight[e]; });
}

void grouped_weight_gradient(const at::Tensor& grad, const at::Tensor& x,
                             const std::vector<int64_t>& offsets, const at::Tensor& accumulator) {
  const at::NoGradGuard no_grad;
  if (accumulator.scalar_type() == x.scalar_type()) {
    for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
      accumulator[e].addmm_(grad.slice(0, begin, end).t(), x.slice(0, begin, end));
    });
    return;
  }
  at::Tensor product = at::empty({grad.size(1), x.size(1)}, x.options());
  for_each_group(offsets, [&](int64_t e, int64_t begin, int64_t end) {
    const int64_t some = bucket(x, end - begin);
    at::mm_out(product, padded(grad, begin, end, some).t(), padded(x, begin, end, some));
    accumulate(accumulator[e], product);
  });
}

}  // namespace farskip::kernels
