// The rows of an expert message as they lie in memory: features, then a few numbers of the row's
// own.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace farskip::model {

/// Both parts begin at multiples of 8 bytes.
struct RowFormat {
  int64_t features = 0;
  at::ScalarType dtype = at::kFloat;
  int64_t extras = 0;
  at::ScalarType extra_dtype = at::kShort;

  int64_t row_bytes() const;
  /// Memory for `rows` rows, uint8 [rows, row_bytes]; the extras are 0.
  at::Tensor allocate(int64_t rows, at::Device device) const;
  /// Views of it: [rows, features] of dtype and [rows, extras] of extra_dtype.
  at::Tensor features_of(const at::Tensor& message) const;
  at::Tensor extras_of(const at::Tensor& message) const;

 private:
  int64_t extras_begin() const;
};

}  // namespace farskip::model
