#include "model/message_rows.h"

#include <ATen/ATen.h>

namespace farskip::model {
namespace {

int64_t to_eight(int64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace

int64_t RowFormat::extras_begin() const {
  return to_eight(features * static_cast<int64_t>(c10::elementSize(dtype)));
}

int64_t RowFormat::row_bytes() const {
  return extras_begin() + to_eight(extras * static_cast<int64_t>(c10::elementSize(extra_dtype)));
}

at::Tensor RowFormat::allocate(int64_t rows, at::Device device) const {
  const at::Tensor message =
      at::empty({rows, row_bytes()}, at::TensorOptions(at::kByte).device(device));
  const int64_t used = features * static_cast<int64_t>(c10::elementSize(dtype));
  message.narrow(1, used, row_bytes() - used).zero_();
  return message;
}

at::Tensor RowFormat::features_of(const at::Tensor& message) const {
  return message.narrow(1, 0, features * static_cast<int64_t>(c10::elementSize(dtype))).view(dtype);
}

at::Tensor RowFormat::extras_of(const at::Tensor& message) const {
  return message
      .narrow(1, extras_begin(), extras * static_cast<int64_t>(c10::elementSize(extra_dtype)))
      .view(extra_dtype);
}

}  // namespace farskip::model
