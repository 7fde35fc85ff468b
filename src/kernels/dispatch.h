// Moving token rows to experts and back: the plan (a stable counting sort of (token, slot) pairs by
// expert), gathering rows into plan order and combining expert outputs per token. A rank that owns
// some experts plans with slots that are absent: those whose expert is another rank's.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace farskip::kernels {

struct Plan {
  at::Tensor pairs;              ///< int64 [rows]: token * k + slot, sorted by expert, stable
  at::Tensor tokens;             ///< int64 [rows] = pairs / k
  at::Tensor rows_of_token;      ///< int64 [N,k]: where a token's pairs went, ascending, which is
                                 ///< expert order; -1 behind them for absent slots
  std::vector<int64_t> offsets;  ///< [E+1]: expert e owns rows offsets[e] .. offsets[e+1]
  int64_t top_k = 0;
  int64_t rows = 0;  ///< N*k less the absent slots
};

enum class Slots { all, some };

/// experts int64 [N,k], each in 0 .. expert_count-1, or -1 for an absent slot where there may be
/// `some` (else Error). Sorted on the CPU; the plan's tensors are on the device of `experts`.
Plan plan(const at::Tensor& experts, int64_t expert_count, Slots slots = Slots::all);
/// Of the pairs whose expert is one of the `count` from `first` on, which become 0 .. count-1; the
/// other slots are absent.
Plan plan_of(const at::Tensor& experts, int64_t first, int64_t count);

/// x[tokens]: x [N,H] -> [R,H].
at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& tokens);
/// The same into y [R,H]. Rows of x and y may lie any distance apart; their elements are adjacent.
void gather_rows_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& tokens);

/// into[rows[i], column ..] = x[i]: into [R,W] with adjacent elements, rows int64 [N], x [N, ...]
/// of no more than W - column elements a row, same dtype.
void put_rows(const at::Tensor& into, int64_t column, const at::Tensor& rows, const at::Tensor& x);

/// The backward of gather_rows: grad [rows,H] -> [tokens,H], each token's rows summed in expert
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

/// outputs [rows,H] in the order of the plan, weights [N,k] of any floating dtype -> [N,H] in
/// outputs' dtype; absent slots add nothing.
at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const Plan& plan,
                   Accumulate accumulate);

struct CombineGrad {
  at::Tensor outputs;  ///< [rows,H] in outputs' dtype
  at::Tensor weights;  ///< [N,k] in weights' dtype, dot products taken in opmath; 0 where absent
};
CombineGrad combine_backward(const at::Tensor& grad, const at::Tensor& outputs,
                             const at::Tensor& weights, const Plan& plan);

}  // namespace farskip::kernels
