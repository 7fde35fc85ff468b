// Memory for a kernel's result.
#pragma once
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// An uninitialised contiguous tensor on the CPU. Goes past LibTorch's dispatcher, which costs a
/// decode step more than the memory does.
inline at::Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::Tensor(at::detail::empty_cpu(sizes, dtype));
}

}  // namespace farskip::kernels
