#include "kernels/prefill_attention.h"

#include <ATen/ATen.h>

#include "kernels/isa/prefill_attention_avx512.h"
#include "kernels/isa/table.h"
#include "kernels/parallel.h"
#include "util/error.h"

namespace farskip::kernels {
namespace {

const uint16_t* bits(const at::Tensor& t) {
  return reinterpret_cast<const uint16_t*>(t.const_data_ptr<at::BFloat16>());
}

}  // namespace

bool prefill_attention_supported(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
#ifdef FARSKIP_X86_KERNELS
  const bool has = isa::table().level == isa::Level::kAvx512Bf16;
  const auto fits = [](const at::Tensor& t) {
    return t.device().is_cpu() && t.scalar_type() == at::kBFloat16 && t.stride(-1) == 1;
  };
  return has && fits(q) && fits(k) && fits(v);
#else
  return false;
#endif
}

at::Tensor prefill_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             int64_t rows, double scale) {
#ifdef FARSKIP_X86_KERNELS
  const int64_t heads = q.size(1), kv_heads = k.size(1), group = heads / kv_heads;
  const int64_t queries = q.size(0) / rows, keys = k.size(0) / rows, v_dim = v.size(2);
  at::Tensor out = at::empty({q.size(0), heads * v_dim}, q.options());

  const auto head_of = [&](int64_t row, int64_t head) {
    avx512::AttentionHead h;
    const int64_t kv_head = head / group;
    h.q = bits(q) + row * queries * q.stride(0) + head * q.stride(1);
    h.k = bits(k) + row * keys * k.stride(0) + kv_head * k.stride(1);
    h.v = bits(v) + row * keys * v.stride(0) + kv_head * v.stride(1);
    h.out = reinterpret_cast<uint16_t*>(out.mutable_data_ptr<at::BFloat16>()) +
            (row * queries * heads + head) * v_dim;
    h.q_stride = q.stride(0);
    h.k_stride = k.stride(0);
    h.v_stride = v.stride(0);
    h.out_stride = heads * v_dim;
    h.queries = queries;
    h.keys = keys;
    h.dim = q.size(2);
    h.v_dim = v_dim;
    h.scale = static_cast<float>(scale);
    return h;
  };
  const avx512::AttentionHead any = head_of(0, 0);
  const int64_t packed_size = any.packed_keys() + any.packed_values();
  const auto words = q.options().dtype(at::kInt);

  const int64_t blocks = (queries + avx512::kQueryBlock - 1) / avx512::kQueryBlock;
  // A key head and its group of queries are one task: packed keys stay in its core's cache.
  const auto run = [&](int64_t begin, int64_t end) {
    const at::Tensor memory = at::empty({packed_size + any.scratch()}, words);
    auto* packed = reinterpret_cast<uint32_t*>(memory.mutable_data_ptr<int>());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / kv_heads, kv_head = task % kv_heads;
      avx512::pack_keys(head_of(row, kv_head * group), packed);
      avx512::pack_values(head_of(row, kv_head * group), packed + any.packed_keys());
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (int64_t block = 0; block < blocks; ++block) {
          const int64_t first = block * avx512::kQueryBlock;
          avx512::attend(head_of(row, head), packed, packed + any.packed_keys(), first,
                         std::min(avx512::kQueryBlock, queries - first), packed + packed_size);
        }
    }
  };
  parallel_for(rows * kv_heads, 1, run);
  return out;
#else
  throw Error("prefill_attention: built without AVX512_BF16");
#endif
}

}  // namespace farskip::kernels
