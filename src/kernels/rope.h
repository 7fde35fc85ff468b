// Rotary position embedding (Su et al. 2021).
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// Rotates pairs of x's last dimension: (2i, 2i+1) when interleaved, else (i, i + dim/2); every
/// element stays at its place. x [N,heads,dim], any strides with adjacent last elements; cos and
/// sin [N,dim/2] in opmath dtype. `inverse` rotates backwards, which is the backward pass.
/// Returns a new contiguous tensor, computed in opmath and rounded once.
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                bool inverse = false);

}  // namespace farskip::kernels
