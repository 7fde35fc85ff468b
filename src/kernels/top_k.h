// The k largest scores of each row, with ties broken the same way everywhere.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace farskip::kernels {

struct TopK {
  at::Tensor values;   ///< [N,k], scores' dtype, descending
  at::Tensor indices;  ///< [N,k], int64
};

/// scores [N,E], float32 or float64, 0 <= k <= E. Equal scores: lowest index first. -inf is a
/// score like any other; NaN comes after all numbers.
TopK top_k(const at::Tensor& scores, int64_t k);

/// The index of the greatest of scores [V], V > 0, any floating dtype; of equal ones the lowest.
/// Nothing where a score is not finite.
std::optional<int64_t> argmax(const at::Tensor& scores);

}  // namespace farskip::kernels
