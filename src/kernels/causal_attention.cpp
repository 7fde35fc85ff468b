#include "kernels/causal_attention.h"

#include <ATen/ATen.h>

#include "kernels/isa/causal_attention_avx512.h"
#include "kernels/isa/table.h"
#include "kernels/parallel.h"
#include "util/error.h"

namespace farskip::kernels {

#ifdef FARSKIP_X86_KERNELS

namespace {

const uint16_t* bits(const at::Tensor& t) {
  return reinterpret_cast<const uint16_t*>(t.const_data_ptr<at::BFloat16>());
}
uint16_t* mutable_bits(const at::Tensor& t) {
  return reinterpret_cast<uint16_t*>(t.mutable_data_ptr<at::BFloat16>());
}

/// Memory of `words` 32-bit words for one thread.
at::Tensor scratch(int64_t words) {
  return at::empty({words}, at::kInt);
}
uint32_t* words_of(const at::Tensor& memory) {
  return reinterpret_cast<uint32_t*>(memory.mutable_data_ptr<int>());
}

}  // namespace

bool causal_attention_supported(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto fits = [](const at::Tensor& t) {
    return t.device().is_cpu() && t.scalar_type() == at::kBFloat16 && t.stride(-1) == 1;
  };
  return isa::table().level == isa::Level::kAvx512Bf16 && fits(q) && fits(k) && fits(v);
}

CausalAttention causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 int64_t rows, double scale) {
  const int64_t heads = q.size(1), kv_heads = k.size(1), group = heads / kv_heads;
  const int64_t queries = q.size(0) / rows, keys = k.size(0) / rows, v_dim = v.size(2);
  CausalAttention result{at::empty({q.size(0), heads * v_dim}, q.options()),
                         at::empty({q.size(0), heads}, q.options().dtype(at::kFloat))};

  const auto head_of = [&](int64_t row, int64_t head) {
    const int64_t kv_head = head / group, token = row * queries;
    return avx512::AttentionHead{.q = bits(q) + token * q.stride(0) + head * q.stride(1),
                                 .k = bits(k) + row * keys * k.stride(0) + kv_head * k.stride(1),
                                 .v = bits(v) + row * keys * v.stride(0) + kv_head * v.stride(1),
                                 .out = mutable_bits(result.y) + (token * heads + head) * v_dim,
                                 .lse = result.lse.mutable_data_ptr<float>() + token * heads + head,
                                 .q_stride = q.stride(0),
                                 .k_stride = k.stride(0),
                                 .v_stride = v.stride(0),
                                 .out_stride = heads * v_dim,
                                 .lse_stride = heads,
                                 .queries = queries,
                                 .keys = keys,
                                 .dim = q.size(2),
                                 .v_dim = v_dim,
                                 .scale = static_cast<float>(scale)};
  };
  const avx512::AttentionHead any = head_of(0, 0);
  const int64_t key_words = packed_keys(any), value_words = packed_values(any);
  const int64_t blocks = (queries + avx512::kQueryBlock - 1) / avx512::kQueryBlock;
  // A key head and its group of queries are one task: packed keys stay in its core's cache.
  parallel_for(rows * kv_heads, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor memory = scratch(key_words + value_words + attention_scratch(any));
    uint32_t* packed = words_of(memory);
    uint32_t* values = packed + key_words;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / kv_heads, kv_head = task % kv_heads;
      pack_keys(head_of(row, kv_head * group), packed);
      pack_values(head_of(row, kv_head * group), values);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (int64_t block = 0; block < blocks; ++block) {
          const int64_t first = block * avx512::kQueryBlock;
          attend(head_of(row, head), packed, values, first,
                 std::min(avx512::kQueryBlock, queries - first), values + value_words);
        }
    }
  });
  return result;
}

CausalAttentionGradients causal_attention_backward(const at::Tensor& gradient, const at::Tensor& q,
                                                   const at::Tensor& k, const at::Tensor& v,
                                                   const CausalAttention& forward, int64_t rows,
                                                   double scale) {
  const at::Tensor dy = gradient.contiguous();
  const int64_t heads = q.size(1), kv_heads = k.size(1), group = heads / kv_heads;
  const int64_t queries = q.size(0) / rows, keys = k.size(0) / rows;
  const int64_t dim = q.size(2), v_dim = v.size(2);
  CausalAttentionGradients result{at::empty(q.sizes(), q.options()),
                                  at::empty(k.sizes(), k.options()),
                                  at::empty(v.sizes(), v.options())};
  const auto group_of = [&](int64_t task) {
    const int64_t row = task / kv_heads, kv_head = task % kv_heads, head = kv_head * group;
    const int64_t token = row * queries, key = row * keys;
    return avx512::AttentionGroup{.q = bits(q) + token * q.stride(0) + head * q.stride(1),
                                  .k = bits(k) + key * k.stride(0) + kv_head * k.stride(1),
                                  .v = bits(v) + key * v.stride(0) + kv_head * v.stride(1),
                                  .y = bits(forward.y) + (token * heads + head) * v_dim,
                                  .dy = bits(dy) + (token * heads + head) * v_dim,
                                  .lse = forward.lse.const_data_ptr<float>() + token * heads + head,
                                  .dq = mutable_bits(result.q) + (token * heads + head) * dim,
                                  .dk = mutable_bits(result.k) + (key * kv_heads + kv_head) * dim,
                                  .dv = mutable_bits(result.v) + (key * kv_heads + kv_head) * v_dim,
                                  .q_stride = q.stride(0),
                                  .q_next = q.stride(1),
                                  .k_stride = k.stride(0),
                                  .v_stride = v.stride(0),
                                  .y_stride = heads * v_dim,
                                  .y_next = v_dim,
                                  .lse_stride = heads,
                                  .dq_stride = heads * dim,
                                  .dq_next = dim,
                                  .dk_stride = kv_heads * dim,
                                  .dv_stride = kv_heads * v_dim,
                                  .group = group,
                                  .queries = queries,
                                  .keys = keys,
                                  .dim = dim,
                                  .v_dim = v_dim,
                                  .scale = static_cast<float>(scale)};
  };
  parallel_for(rows * kv_heads, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor memory = scratch(backward_scratch(group_of(begin)));
    for (int64_t task = begin; task < end; ++task)
      attend_backward(group_of(task), words_of(memory));
  });
  return result;
}

#else

bool causal_attention_supported(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  return false;
}
CausalAttention causal_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t,
                                 double) {
  throw Error("causal_attention: built without AVX512_BF16");
}
CausalAttentionGradients causal_attention_backward(const at::Tensor&, const at::Tensor&,
                                                   const at::Tensor&, const at::Tensor&,
                                                   const CausalAttention&, int64_t, double) {
  throw Error("causal_attention_backward: built without AVX512_BF16");
}

#endif

}  // namespace farskip::kernels
