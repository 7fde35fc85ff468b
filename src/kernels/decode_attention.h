// Attention of one new token a sequence over a key/value cache.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace farskip::kernels {

/// q [B,heads,D]; keys [slots,capacity,kv_heads,D] and values [slots,capacity,kv_heads,Dv], any
/// strides with adjacent last elements, values may be a view of keys (MLA's latent cache).
/// Sequence b attends to the first lengths[b] >= 1 positions of slots[b]; query head h reads
/// key/value head h / (heads / kv_heads). Softmax of scale * q.k and all sums in opmath, rounded
/// once. Returns [B,heads,Dv].
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const int64_t> slots, std::span<const int64_t> lengths,
                            double scale);

}  // namespace farskip::kernels
