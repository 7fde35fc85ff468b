#include "kernels/top_k.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include <cmath>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "util/error.h"

namespace farskip::kernels {

namespace {

template <class T>
bool precedes(T a, T b) {
  return a > b || (std::isnan(b) && !std::isnan(a));
}

// Insertion into a sorted list of at most k: scores are few and most of them fail one comparison.
template <class T>
void top_k_of_row(const T* scores, int64_t count, int64_t k, T* values, int64_t* indices) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T score = scores[i];
    if (found == k && (k == 0 || !precedes(score, values[k - 1]))) continue;
    int64_t at = found < k ? found++ : k - 1;
    for (; at > 0 && precedes(score, values[at - 1]); --at) {
      values[at] = values[at - 1];
      indices[at] = indices[at - 1];
    }
    values[at] = score;
    indices[at] = i;
  }
}

}  // namespace

TopK top_k(const at::Tensor& scores, int64_t k) {
  // On the CPU wherever the scores are: LibTorch leaves open which of equal ones comes first.
  const at::Tensor dense = scores.cpu().contiguous();
  const int64_t rows = dense.size(0);
  const int64_t count = dense.size(1);
  util::require(k >= 0 && k <= count, "top_k: k", k, util::concat("0 to ", count));
  TopK result{empty({rows, k}, dense.scalar_type()), empty({rows, k}, at::kLong)};
  AT_DISPATCH_FLOATING_TYPES(dense.scalar_type(), "top_k", [&] {
    const auto* in = dense.const_data_ptr<scalar_t>();
    auto* values = result.values.mutable_data_ptr<scalar_t>();
    auto* indices = result.indices.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; ++i) {
      top_k_of_row(in + i * count, count, k, values + i * k, indices + i * k);
    }
  });
  return {result.values.to(scores.device()), result.indices.to(scores.device())};
}

std::optional<int64_t> argmax(const at::Tensor& scores) {
  const at::Tensor row = scores.cpu().contiguous();
  std::optional<int64_t> best;
  const bool done = isa::with_kernels(row, [&]<class T>(const isa::Kernels<T>& kernels) {
    const int64_t index = kernels.argmax(isa::data<T>(row), row.numel());
    if (index >= 0) best = index;
  });
  return done ? best : generic::argmax(row);
}

}  // namespace farskip::kernels
