// From tensors to the raw kernels.
#pragma once
#include <ATen/core/Tensor.h>

#include <type_traits>

#include "kernels/isa/table.h"

namespace farskip::kernels::isa {

/// Calls f(kernels of the dtype) and returns true for bfloat16 and float32 on the CPU; returns
/// false for everything else, which the generic functions serve.
template <class F>
bool with_kernels(const at::Tensor& tensor, F f) {
  if (!tensor.device().is_cpu()) return false;
  switch (tensor.scalar_type()) {
    case at::kBFloat16:
      f(table().bfloat16);
      return true;
    case at::kFloat:
      f(table().float32);
      return true;
    default:
      return false;
  }
}

/// Elements of a tensor as the kernels see them; another dtype in the tensor is an error.
template <class T>
const T* data(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<T, bf16>) {
    return reinterpret_cast<const bf16*>(tensor.const_data_ptr<at::BFloat16>());
  } else {
    return tensor.const_data_ptr<T>();
  }
}
template <class T>
T* mutable_data(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<T, bf16>) {
    return reinterpret_cast<bf16*>(tensor.mutable_data_ptr<at::BFloat16>());
  } else {
    return tensor.mutable_data_ptr<T>();
  }
}

}  // namespace farskip::kernels::isa
