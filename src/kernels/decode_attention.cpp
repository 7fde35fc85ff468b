#include "kernels/decode_attention.h"

#include "kernels/generic.h"

namespace farskip::kernels {

at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const int64_t> slots, std::span<const int64_t> lengths,
                            double scale) {
  return generic::decode_attention(q, keys, values, slots, lengths, scale);
}

}  // namespace farskip::kernels
