#include "kernels/grouped_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>

#include "kernels/parallel.h"
#include "kernels/product.h"

namespace farskip::kernels {

namespace {

// oneDNN (16-bit products) builds a kernel for every new number of rows, which takes as long as a
// product of about 100 rows by 1024 x 512, and keeps 1024 of them: experts with ever new numbers of
// rows would have it build for ever. So the number is rounded up to a bucket.
constexpr int64_t kBucket = 16;

int64_t bucket(const at::Tensor& x, int64_t rows, const at::Tensor& factor) {
  if (x.element_size() != 2 || better_wide(x.slice(0, 0, rows), factor)) return rows;
  return (rows + kBucket - 1) / kBucket * kBucket;
}

// Rows begin .. end and zeros after them, `rows` in all.
at::Tensor padded(const at::Tensor& x, int64_t begin, int64_t end, int64_t rows) {
  if (end - begin == rows) return x.slice(0, begin, end);
  const at::Tensor result = at::empty({rows, x.size(1)}, x.options());
  result.slice(0, 0, end - begin).copy_(x.slice(0, begin, end));
  result.slice(0, end - begin).zero_();
  return result;
}

/// An expert and its rows.
struct Expert {
  int64_t index, begin, end;
};

std::vector<Expert> experts_with_rows(const std::vector<int64_t>& offsets) {
  std::vector<Expert> found;
  for (size_t e = 0; e + 1 < offsets.size(); ++e)
    if (offsets[e] < offsets[e + 1])
      found.push_back({static_cast<int64_t>(e), offsets[e], offsets[e + 1]});
  return found;
}

/// Where runs of experts of about the same number of rows begin, and the end: one run a thread. One
/// run of all where a thread would get much more than its share, or on a GPU.
std::vector<size_t> cut(const std::vector<Expert>& experts, const at::Tensor& x) {
  const int64_t threads = x.device().is_cpu() ? at::get_num_threads() : 1;
  const int64_t runs = std::min<int64_t>(threads, static_cast<int64_t>(experts.size()));
  std::vector<size_t> first{0};
  int64_t begin = 0;
  for (size_t i = 0; i < experts.size(); ++i) {
    const int64_t middle = (experts[i].begin + experts[i].end) / 2;
    if (static_cast<int64_t>(first.size()) < runs &&
        middle * runs >= x.size(0) * static_cast<int64_t>(first.size())) {
      first.push_back(i);
      begin = experts[i].begin;
    }
    if ((experts[i].end - begin) * runs > x.size(0) * 3 / 2) return {0, experts.size()};
  }
  first.push_back(experts.size());
  return first;
}

/// f(first, last) on runs of experts, one a thread: a product split over threads would have them
/// wait for each other once an expert. What LibTorch keeps for a thread (inference mode, say) is
/// the caller's there too.
template <class F>
void share_out(const std::vector<Expert>& experts, const at::Tensor& x, F f) {
  const std::vector<size_t> first = cut(experts, x);
  const at::ThreadLocalState state;
  parallel_for(static_cast<int64_t>(first.size()) - 1, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard as_caller(state);
    const at::NoGradGuard no_grad;  // mm_out takes no inputs that want gradients
    for (int64_t run = begin; run < end; ++run)
      if (first[run] < first[run + 1]) f(first[run], first[run + 1]);
  });
}

// x_e factor(e) for every expert. A product of more rows than the expert has runs on into rows of
// the next experts of its run, whose own products overwrite what it left there; where that would
// reach past the run, it goes into memory of its own.
template <class F>
at::Tensor product_of_each(const at::Tensor& x, const std::vector<int64_t>& offsets,
                           int64_t outputs, F factor) {
  const std::vector<Expert> experts = experts_with_rows(offsets);
  const at::Tensor y = at::empty({x.size(0), outputs}, x.options());
  share_out(experts, x, [&](size_t first, size_t last) {
    const int64_t limit = experts[last - 1].end;
    for (size_t i = first; i < last; ++i) {
      const auto& [e, begin, end] = experts[i];
      const int64_t some = bucket(x, end - begin, factor(e));
      if (begin + some <= limit) {
        product_into(y.slice(0, begin, begin + some), x.slice(0, begin, begin + some), factor(e));
      } else {
        y.slice(0, begin, end)
            .copy_(product(padded(x, begin, end, some), factor(e)).slice(0, 0, end - begin));
      }
    }
  });
  return y;
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
  const std::vector<Expert> experts = experts_with_rows(offsets);
  const bool same_dtype = accumulator.scalar_type() == x.scalar_type();
  share_out(experts, x, [&](size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) {
      const auto& [e, begin, end] = experts[i];
      const int64_t some =
          same_dtype ? end - begin : bucket(grad, end - begin, x.slice(0, begin, end).t());
      add_product(accumulator[e], padded(grad, begin, end, some).t(), padded(x, begin, end, some));
    }
  });
}

}  // namespace farskip::kernels
