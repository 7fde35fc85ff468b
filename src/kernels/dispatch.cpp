#include "kernels/dispatch.h"

#include <ATen/ATen.h>

#include <cstring>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/opmath.h"
#include "kernels/parallel.h"
#include "util/error.h"

namespace farskip::kernels {

namespace {

/// `own` turns the expert of a pair into one of 0 .. expert_count-1, or -1 for an absent slot.
template <class Own>
Plan sorted_plan(const at::Tensor& experts, int64_t expert_count, Own own) {
  const at::Tensor dense = experts.cpu().contiguous();
  const int64_t tokens = dense.size(0), slot_count = dense.numel();
  Plan result;
  result.top_k = dense.size(1);
  result.offsets.assign(expert_count + 1, 0);

  const int64_t* chosen = dense.const_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < slot_count; ++pair)
    if (const int64_t expert = own(chosen[pair]); expert >= 0) ++result.offsets[expert + 1];
  for (int64_t e = 0; e < expert_count; ++e) result.offsets[e + 1] += result.offsets[e];
  result.rows = result.offsets.back();
  result.pairs = empty({result.rows}, dense.scalar_type());
  result.tokens = empty({result.rows}, dense.scalar_type());
  result.rows_of_token = empty({tokens, result.top_k}, dense.scalar_type());

  std::vector<int64_t> next(result.offsets.begin(), result.offsets.end() - 1);
  int64_t* pairs = result.pairs.mutable_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < slot_count; ++pair)
    if (const int64_t expert = own(chosen[pair]); expert >= 0) pairs[next[expert]++] = pair;

  std::vector<int64_t> found(tokens, 0);
  int64_t* token_of_row = result.tokens.mutable_data_ptr<int64_t>();
  int64_t* rows_of_token = result.rows_of_token.mutable_data_ptr<int64_t>();
  if (result.rows < slot_count) result.rows_of_token.fill_(-1);
  for (int64_t row = 0; row < result.rows; ++row) {
    const int64_t token = pairs[row] / result.top_k;
    token_of_row[row] = token;
    rows_of_token[token * result.top_k + found[token]++] = row;
  }
  for (at::Tensor* tensor : {&result.pairs, &result.tokens, &result.rows_of_token})
    *tensor = tensor->to(experts.device());
  return result;
}

}  // namespace

Plan plan(const at::Tensor& experts, int64_t expert_count, Slots slots) {
  const int64_t least = slots == Slots::all ? 0 : -1;
  return sorted_plan(experts, expert_count, [&](int64_t expert) {
    if (expert < least || expert >= expert_count)
      throw Error(
          util::concat("plan: found expert ", expert, ", expected 0 to ", expert_count - 1));
    return expert;
  });
}

Plan plan_of(const at::Tensor& experts, int64_t first, int64_t count) {
  return sorted_plan(experts, count, [=](int64_t expert) {
    return expert >= first && expert < first + count ? expert - first : -1;
  });
}

at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& tokens) {
  if (!x.device().is_cpu() || x.dim() != 2) return generic::gather_rows(x, tokens);
  at::Tensor y = empty({tokens.numel(), x.size(1)}, x.scalar_type());
  gather_rows_into(y, x, tokens);
  return y;
}

void gather_rows_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& tokens) {
  if (!x.device().is_cpu()) {
    y.copy_(generic::gather_rows(x, tokens));
    return;
  }
  const at::Tensor in = x.stride(1) == 1 ? x : x.contiguous();
  const at::Tensor index = tokens.contiguous();
  const int64_t rows = index.numel(), size = in.element_size(), bytes = in.size(1) * size;
  const int64_t from_stride = in.stride(0) * size, to_stride = y.stride(0) * size;
  const char* from = static_cast<const char*>(in.const_data_ptr());
  char* to = static_cast<char*>(y.mutable_data_ptr());
  const int64_t* token = index.const_data_ptr<int64_t>();
  parallel_for(rows, grain_for(2 * bytes), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(to + row * to_stride, from + token[row] * from_stride, bytes);
    }
  });
}

void put_rows(const at::Tensor& into, int64_t column, const at::Tensor& rows, const at::Tensor& x) {
  const int64_t count = x.size(0), width = x.numel() / std::max<int64_t>(count, 1);
  if (!into.device().is_cpu()) {
    into.narrow(1, column, width).index_copy_(0, rows, x.reshape({count, width}));
    return;
  }
  const at::Tensor from = x.contiguous();
  const int64_t size = into.element_size(), bytes = width * size, stride = into.stride(0) * size;
  const char* source = static_cast<const char*>(from.const_data_ptr());
  char* target = static_cast<char*>(into.mutable_data_ptr()) + column * size;
  const int64_t* row = rows.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(target + row[i] * stride, source + i * bytes, bytes);
}

at::Tensor scatter_rows(const at::Tensor& grad, const Plan& plan, int64_t tokens) {
  at::Tensor y;
  const bool done = isa::with_kernels(grad, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor dense = grad.contiguous();
    const int64_t size = dense.size(1);
    y = empty({tokens, size}, dense.scalar_type());
    const T* rows = isa::data<T>(dense);
    const int64_t* rows_of_token = isa::data<int64_t>(plan.rows_of_token);
    T* out = isa::mutable_data<T>(y);
    parallel_for(tokens, grain_for((plan.top_k + 1) * size * sizeof(T)),
                 [&](int64_t begin, int64_t end) {
                   kernels.scatter_rows(rows, rows_of_token, plan.top_k, out, begin, end, size);
                 });
  });
  return done ? y : generic::scatter_rows(grad, plan, tokens);
}

at::Tensor weights_as_factors(const at::Tensor& weights, at::ScalarType dtype,
                              Accumulate accumulate) {
  const at::Tensor rounded = accumulate == Accumulate::kDtype ? weights.to(dtype) : weights;
  return rounded.to(opmath(dtype)).contiguous();
}

at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const Plan& plan,
                   Accumulate accumulate) {
  at::Tensor y;
  const bool done = isa::with_kernels(outputs, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor dense = outputs.contiguous();
    const at::Tensor factors = weights_as_factors(weights, dense.scalar_type(), accumulate);
    const int64_t tokens = weights.size(0);
    const int64_t size = dense.size(1);
    y = empty({tokens, size}, dense.scalar_type());
    const T* rows = isa::data<T>(dense);
    const float* factor = isa::data<float>(factors);
    const int64_t* pairs = isa::data<int64_t>(plan.pairs);
    const int64_t* rows_of_token = isa::data<int64_t>(plan.rows_of_token);
    T* out = isa::mutable_data<T>(y);
    parallel_for(tokens, grain_for((plan.top_k + 1) * size * sizeof(T)),
                 [&](int64_t begin, int64_t end) {
                   kernels.combine(rows, factor, pairs, rows_of_token, plan.top_k,
                                   accumulate == Accumulate::kDtype, out, begin, end, size);
                 });
  });
  return done ? y : generic::combine(outputs, weights, plan, accumulate);
}

CombineGrad combine_backward(const at::Tensor& grad, const at::Tensor& outputs,
                             const at::Tensor& weights, const Plan& plan) {
  CombineGrad result;
  const bool done = isa::with_kernels(outputs, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor dense_grad = grad.contiguous();
    const at::Tensor dense = outputs.contiguous();
    const at::Tensor factors = weights.to(at::kFloat).contiguous();
    const int64_t size = dense.size(1);
    result.outputs = empty(dense.sizes(), dense.scalar_type());
    const at::Tensor grad_weights = plan.rows == factors.numel()
                                        ? empty(factors.sizes(), factors.scalar_type())
                                        : at::zeros(factors.sizes(), factors.options());
    const T* gradient = isa::data<T>(dense_grad);
    const T* rows = isa::data<T>(dense);
    const float* factor = isa::data<float>(factors);
    const int64_t* pairs = isa::data<int64_t>(plan.pairs);
    T* out = isa::mutable_data<T>(result.outputs);
    float* dots = isa::mutable_data<float>(grad_weights);
    parallel_for(plan.rows, grain_for(3 * size * sizeof(T)), [&](int64_t begin, int64_t end) {
      kernels.combine_backward(gradient, rows, factor, pairs, plan.top_k, out, dots, begin, end,
                               size);
    });
    result.weights = grad_weights.to(weights.scalar_type());
  });
  return done ? result : generic::combine_backward(grad, outputs, weights, plan);
}

}  // namespace farskip::kernels
