// The k largest scores of each row, with ties broken the same way everywhere.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

struct TopK {
  at::Tensor values;   ///< [N,k], scores' dtype, descending
  at::Tensor indices;  ///< [N,k], int64
};

/// scores [N,E], float32 or float64, 0 <= k <= E. Equal scores: lowest index first. -inf is a
/// score like any other; NaN comes after all numbers.
TopK top_k(const at::Tensor& scores, int64_t k);

}  // namespace farskip::kernels
