#include "kernels/decode_attention.h"

#include <ATen/ATen.h>

#include <vector>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"
#include "util/error.h"

namespace farskip::kernels {

namespace {

at::Tensor with_adjacent_elements(const at::Tensor& tensor) {
  return tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

void check(const at::Tensor& q, const at::Tensor& keys, std::span<const int64_t> slots,
           std::span<const int64_t> lengths) {
  for (int64_t b = 0; b < q.size(0); ++b) {
    if (slots[b] < 0 || slots[b] >= keys.size(0) || lengths[b] < 1 || lengths[b] > keys.size(1)) {
      throw Error(util::concat("decode_attention: found slot ", slots[b], " with length ",
                               lengths[b], ", expected a slot below ", keys.size(0),
                               " and a length from 1 to ", keys.size(1)));
    }
  }
}

// Sequences are cut at multiples of kAttentionBlock, so that the bits of one do not depend on the
// others; heads lie side by side in the cache and so follow each other.
struct Work {
  std::vector<isa::AttentionItem> items;
  std::vector<int64_t> first;  // [B+1], into items
};

Work cut(std::span<const int64_t> slots, std::span<const int64_t> lengths, int64_t kv_heads) {
  Work work;
  for (size_t b = 0; b < slots.size(); ++b) {
    work.first.push_back(static_cast<int64_t>(work.items.size()));
    for (int64_t begin = 0; begin < lengths[b]; begin += isa::kAttentionBlock) {
      for (int64_t head = 0; head < kv_heads; ++head) {
        work.items.push_back({.sequence = static_cast<int64_t>(b),
                              .kv_head = head,
                              .slot = slots[b],
                              .begin = begin,
                              .end = std::min(begin + isa::kAttentionBlock, lengths[b])});
      }
    }
  }
  work.first.push_back(static_cast<int64_t>(work.items.size()));
  return work;
}

}  // namespace

at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const int64_t> slots, std::span<const int64_t> lengths,
                            double scale) {
  check(q, keys, slots, lengths);
  at::Tensor y;
  const bool done = isa::with_kernels(q, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor queries = q.contiguous();
    const at::Tensor k = with_adjacent_elements(keys);
    const at::Tensor v = with_adjacent_elements(values);
    const int64_t heads = q.size(1);
    const int64_t kv_heads = k.size(2);
    const int64_t group = heads / kv_heads;
    const int64_t value_dim = v.size(3);
    const Work work = cut(slots.first(q.size(0)), lengths.first(q.size(0)), kv_heads);
    const int64_t count = static_cast<int64_t>(work.items.size());
    const at::Tensor partial = empty({count, group, value_dim + 2}, at::kFloat);
    y = empty({q.size(0), heads, value_dim}, q.scalar_type());
    const isa::Attention<T> operands{.q = isa::data<T>(queries),
                                     .keys = isa::data<T>(k),
                                     .values = isa::data<T>(v),
                                     .key_strides = {k.stride(0), k.stride(1), k.stride(2)},
                                     .value_strides = {v.stride(0), v.stride(1), v.stride(2)},
                                     .heads = heads,
                                     .group = group,
                                     .key_dim = q.size(2),
                                     .value_dim = value_dim,
                                     .scale = static_cast<float>(scale),
                                     .items = work.items.data(),
                                     .partial = isa::mutable_data<float>(partial)};
    const int64_t block_bytes = isa::kAttentionBlock * (q.size(2) + value_dim) * sizeof(T);
    parallel_for(count, grain_for(block_bytes * ((group + 7) / 8)),
                 [&](int64_t begin, int64_t end) { kernels.attention(operands, begin, end); });
    T* out = isa::mutable_data<T>(y);
    const int64_t part = value_dim + 2;
    const int64_t outputs = q.size(0) * heads;
    parallel_for(outputs, grain_for(count / q.size(0) * part * sizeof(float)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t first = work.first[i / heads];
                     kernels.attention_join(operands.partial + (first * group + i % heads) * part,
                                            (work.first[i / heads + 1] - first) / kv_heads,
                                            heads * part, value_dim, out + i * value_dim);
                   }
                 });
  });
  return done ? y : generic::decode_attention(q, keys, values, slots, lengths, scale);
}

}  // namespace farskip::kernels
