// What prefill_attention.cpp and its AVX512_BF16 half share: plain numbers and pointers, because
// that half must not instantiate anything the linker could pick for other machines.
#pragma once
#include <cstdint>

namespace farskip::kernels::avx512 {

inline constexpr int64_t kKeyBlock = 64;    ///< keys of one packed block
inline constexpr int64_t kQueryBlock = 48;  ///< queries of one task

/// One head of one sequence. Strides are in elements; bfloat16 as its 16 bits.
struct AttentionHead {
  const uint16_t* q;
  const uint16_t* k;
  const uint16_t* v;
  uint16_t* out;
  int64_t q_stride, k_stride, v_stride, out_stride;  ///< from token to token
  int64_t queries, keys;
  int64_t dim, v_dim;
  float scale;

  int64_t pairs() const { return (dim + 1) / 2; }               ///< of key elements
  int64_t v_columns() const { return (v_dim + 63) / 64 * 64; }  ///< padded
  int64_t key_blocks() const { return (keys + kKeyBlock - 1) / kKeyBlock; }
  /// 32-bit words that packed keys and values take.
  int64_t packed_keys() const { return key_blocks() * kKeyBlock * pairs(); }
  int64_t packed_values() const { return key_blocks() * kKeyBlock / 2 * v_columns(); }
  /// 32-bit words of scratch for one task.
  int64_t scratch() const { return kQueryBlock * (pairs() + v_columns()); }
};

/// Keys as pairs of elements, a block of 64 keys side by side; values as pairs of keys.
void pack_keys(const AttentionHead& head, uint32_t* packed);
void pack_values(const AttentionHead& head, uint32_t* packed);

/// Queries first .. first + count (at most kQueryBlock) against all the keys that they may see.
void attend(const AttentionHead& head, const uint32_t* keys, const uint32_t* values, int64_t first,
            int64_t count, uint32_t* scratch);

}  // namespace farskip::kernels::avx512
