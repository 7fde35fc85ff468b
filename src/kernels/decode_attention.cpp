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

void check(const at::Tensor& q, const at::Tensor& keys, std::span<const CachedSequence> sequences) {
  if (static_cast<int64_t>(sequences.size()) != q.size(0))
    throw Error(util::concat("decode_attention: found ", sequences.size(), " sequences, expected ",
                             q.size(0)));
  for (const CachedSequence& sequence : sequences) {
    const int64_t room = static_cast<int64_t>(sequence.pages.size()) * keys.size(1);
    if (sequence.length < 1 || sequence.length > room)
      throw Error(util::concat("decode_attention: found a length of ", sequence.length,
                               ", expected one from 1 to ", room));
    for (const int64_t page : sequence.pages)
      if (page < 0 || page >= keys.size(0))
        throw Error(util::concat("decode_attention: found page ", page, ", expected one from 0 to ",
                                 keys.size(0) - 1));
  }
}

// Sequences are cut at the ends of pages and at multiples of kAttentionBlock within, so that the
// bits of one do not depend on the others; heads lie side by side in the cache and so follow each
// other.
struct Work {
  std::vector<isa::AttentionItem> items;
  std::vector<int64_t> first;  // [B+1], into items
};

Work cut(std::span<const CachedSequence> sequences, int64_t page_tokens, int64_t kv_heads) {
  Work work;
  for (size_t b = 0; b < sequences.size(); ++b) {
    work.first.push_back(static_cast<int64_t>(work.items.size()));
    int64_t left = sequences[b].length;
    for (const int64_t page : sequences[b].pages) {
      const int64_t end = std::min(page_tokens, left);
      left -= end;
      for (int64_t begin = 0; begin < end; begin += isa::kAttentionBlock) {
        for (int64_t head = 0; head < kv_heads; ++head) {
          work.items.push_back({.sequence = static_cast<int64_t>(b),
                                .kv_head = head,
                                .page = page,
                                .begin = begin,
                                .end = std::min(begin + isa::kAttentionBlock, end)});
        }
      }
    }
  }
  work.first.push_back(static_cast<int64_t>(work.items.size()));
  return work;
}

}  // namespace

at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                            std::span<const CachedSequence> sequences, double scale) {
  check(q, keys, sequences);
  at::Tensor y;
  const bool done = isa::with_kernels(q, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor queries = q.contiguous();
    const at::Tensor k = with_adjacent_elements(keys);
    const at::Tensor v = with_adjacent_elements(values);
    const int64_t heads = q.size(1);
    const int64_t kv_heads = k.size(2);
    const int64_t group = heads / kv_heads;
    const int64_t value_dim = v.size(3);
    const Work work = cut(sequences, k.size(1), kv_heads);
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
  return done ? y : generic::decode_attention(q, keys, values, sequences, scale);
}

}  // namespace farskip::kernels
