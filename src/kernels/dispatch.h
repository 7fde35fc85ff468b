// Moving token rows to experts and back: the plan (a stable counting sort of (token, slot) pairs by
// expert), gathering rows into plan order and combining expert outputs per token.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace farskip::kernels {

struct Plan {
  at::Tensor pairs;              ///< int64 [N*k]: token * k + slot, sorted by expert, stable
  at::Tensor tokens;             ///< int64 [N*k] = pairs / k
  at::Tensor rows_of_token;      ///< int64 [N,k]: where a token's pairs went, ascending, which is
                                 ///< expert order
  std::vector<int64_t> offsets;  ///< [E+1]: expert e owns rows offsets[e] .. offsets[e+1]
  int64_t top_k = 0;
  int64_t rows = 0;  ///< N*k
};

/// experts int64 [N,k] on the CPU, each in 0 .. expert_count-1 (else Error).
Plan plan(const at::Tensor& experts, int64_t expert_count);

/// x[tokens]: x [N,H] -> [R,H].
at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& tokens);

/// into[rows[i], column ..] = x[i]: into [R,W] with adjacent elements, rows int64 [N], x [N, ...]
/// of no more than W - column elements a row, same dtype.
void put_rows(const at::Tensor& into, int64_t column, const at::Tensor& rows, const at::Tensor& x);

/// The backward of gather_rows: grad [N*k,H] -> [tokens,H], each token's rows summed in expert
/// order in opmath, rounded once.
at::Tensor scatter_rows(const at::Tensor& grad, const Plan& plan, int64_t tokens);

enum class Accumulate {
  kOpmath,  ///< outputs lifted to opmath, weighted, summed in expert order, rounded once (DeepSeek)
  kDtype,   ///< weights, each product and each addition rounded to the dtype of outputs, in expert
            ///< order, starting from zero (Qwen)
};

/// The factors that `combine` multiplies outputs of `dtype` with, in opmath dtype.
at::Tensor weights_as_factors(const at::Tensor& weights, at::ScalarType dtype,
                              Accumulate accumulate);

/// outputs [N*k,H] in plan order, weights [N,k] of any floating dtype -> [N,H] in outputs' dtype.
at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const Plan& plan,
                   Accumulate accumulate);

struct CombineGrad {
  at::Tensor outputs;  ///< [N*k,H] in outputs' dtype
  at::Tensor weights;  ///< [N,k] in weights' dtype, dot products taken in opmath
};
CombineGrad combine_backward(const at::Tensor& grad, const at::Tensor& outputs,
                             const at::Tensor& weights, const Plan& plan);

}  // namespace farskip::kernels
