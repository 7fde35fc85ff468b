#include "kernels/small_linear.h"

#include <ATen/ATen.h>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

namespace {

bool adjacent(const at::Tensor& tensor) {
  return tensor.size(-1) <= 1 || tensor.stride(-1) == 1;
}
at::Tensor with_adjacent_elements(const at::Tensor& tensor) {
  return adjacent(tensor) ? tensor : tensor.contiguous();
}

/// y[:, h] = map(input[:, h], weight[h]) for every head; map is one of the kernels for few rows.
template <class T, class Map>
at::Tensor each_head(const at::Tensor& input, const at::Tensor& weight, int64_t outputs,
                     int64_t depth, Map map) {
  const at::Tensor x = with_adjacent_elements(input);
  const at::Tensor w = with_adjacent_elements(weight);
  const int64_t heads = w.size(0);
  const at::Tensor y = empty({x.size(0), heads, outputs}, x.scalar_type());
  const T* in = isa::data<T>(x);
  const T* weights = isa::data<T>(w);
  T* out = isa::mutable_data<T>(y);
  constexpr int64_t kBlock = 64;
  const int64_t blocks = (outputs + kBlock - 1) / kBlock;
  parallel_for(heads * blocks, grain_for(kBlock * depth * static_cast<int64_t>(sizeof(T))),
               [&](int64_t begin, int64_t end) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t head = item / blocks, first = item % blocks * kBlock;
                   map(in + head * x.stride(1), x.stride(0), x.size(0),
                       weights + head * w.stride(0), w.stride(1), depth, out + head * outputs,
                       heads * outputs, first, std::min(first + kBlock, outputs));
                 }
               });
  return y;
}

}  // namespace

bool small_linear_supported(const at::Tensor& x, const at::Tensor& weight) {
  const auto dtype = x.scalar_type();
  return x.dim() == 2 && weight.dim() == 2 && x.size(0) > 0 && x.size(0) <= kSmallRows &&
         weight.scalar_type() == dtype && (dtype == at::kBFloat16 || dtype == at::kFloat) &&
         x.device().is_cpu() && adjacent(x) && adjacent(weight);
}

at::Tensor small_linear(const at::Tensor& x, const at::Tensor& weight) {
  if (!small_linear_supported(x, weight)) return generic::small_linear(x, weight);
  const int64_t outputs = weight.size(0);
  const int64_t depth = weight.size(1);
  at::Tensor y = empty({x.size(0), outputs}, x.scalar_type());
  isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    const T* in = isa::data<T>(x);
    const T* weights = isa::data<T>(weight);
    T* out = isa::mutable_data<T>(y);
    parallel_for(outputs, grain_for(depth * sizeof(T)), [&](int64_t begin, int64_t end) {
      kernels.small_linear(in, x.stride(0), x.size(0), weights, weight.stride(0), depth, out,
                           outputs, begin, end);
    });
  });
  return y;
}

at::Tensor small_batched_linear(const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor y;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    y = each_head<T>(x, weight, weight.size(1), weight.size(2), kernels.small_linear);
  });
  return done ? y : generic::small_batched_linear(x, weight);
}

at::Tensor small_batched_linear_transposed(const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor y;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    y = each_head<T>(x, weight, weight.size(2), weight.size(1), kernels.small_linear_transposed);
  });
  return done ? y : generic::small_batched_linear_transposed(x, weight);
}

}  // namespace farskip::kernels
