#include "kernels/dispatch.h"

#include <ATen/ATen.h>

#include "kernels/generic.h"
#include "util/error.h"

namespace farskip::kernels {

Plan plan(const at::Tensor& experts, int64_t expert_count) {
  const at::Tensor dense = experts.contiguous();
  const int64_t tokens = dense.size(0);
  Plan result;
  result.top_k = dense.size(1);
  result.rows = tokens * result.top_k;
  result.pairs = at::empty({result.rows}, dense.options());
  result.tokens = at::empty({result.rows}, dense.options());
  result.rows_of_token = at::empty({tokens, result.top_k}, dense.options());
  result.offsets.assign(expert_count + 1, 0);

  const int64_t* expert = dense.const_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < result.rows; ++pair) {
    if (expert[pair] < 0 || expert[pair] >= expert_count) {
      throw Error(
          util::concat("plan: found expert ", expert[pair], ", expected 0 to ", expert_count - 1));
    }
    ++result.offsets[expert[pair] + 1];
  }
  for (int64_t e = 0; e < expert_count; ++e) result.offsets[e + 1] += result.offsets[e];

  std::vector<int64_t> next(result.offsets.begin(), result.offsets.end() - 1);
  int64_t* pairs = result.pairs.mutable_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < result.rows; ++pair) pairs[next[expert[pair]]++] = pair;

  std::vector<int64_t> found(tokens, 0);
  int64_t* token_of_row = result.tokens.mutable_data_ptr<int64_t>();
  int64_t* rows_of_token = result.rows_of_token.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < result.rows; ++row) {
    const int64_t token = pairs[row] / result.top_k;
    token_of_row[row] = token;
    rows_of_token[token * result.top_k + found[token]++] = row;
  }
  return result;
}

at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& tokens) {
  return generic::gather_rows(x, tokens);
}

at::Tensor scatter_rows(const at::Tensor& grad, const Plan& plan, int64_t tokens) {
  return generic::scatter_rows(grad, plan, tokens);
}

at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const Plan& plan,
                   Accumulate accumulate) {
  return generic::combine(outputs, weights, plan, accumulate);
}

CombineGrad combine_backward(const at::Tensor& grad, const at::Tensor& outputs,
                             const at::Tensor& weights, const Plan& plan) {
  return generic::combine_backward(grad, outputs, weights, plan);
}

}  // namespace farskip::kernels
