// Attention of one new token a sequence over a key/value cache.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace farskip::kernels {

/// Where a sequence's keys and values are: position p at place p % page_tokens of page
/// pages[p / page_tokens].
struct CachedSequence {
  std::span<const int64_t> pages;
  int64_t length;  ///< >= 1
};

/// q [B,heads,D]; keys [pages,page_tokens,kv_heads,D] and values [pages,page_tokens,kv_heads,Dv],
/// any strides with adjacent last elements, values may be a view of keys (MLA's latent cache).
/// Query b attends to all positions of sequences[b]; query head h reads key/value head h / (heads /
/// kv_heads). Softmax of scale * q.k and all sums in opmath, rounded once. Returns [B,heads,Dv].
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const CachedSequence> sequences, double scale);

}  // namespace farskip::kernels
