// What causal_attention.cpp and its AVX512_BF16 half share: plain numbers and pointers, because
// that half must not instantiate anything the linker could pick for other machines.
#pragma once
#include <cstdint>

namespace farskip::kernels::avx512 {

inline constexpr int64_t kKeyBlock = 64;    ///< keys of one packed block
inline constexpr int64_t kQueryBlock = 48;  ///< queries of one task

/// One head of one sequence. Strides are in elements; bfloat16 as its 16 bits.
struct AttentionHead {
  const uint16_t *q, *k, *v;
  uint16_t* out;
  float* lse;  ///< the logarithm of each query's sum of exponentials
  int64_t q_stride, k_stride, v_stride, out_stride, lse_stride;  ///< from token to token
  int64_t queries, keys, dim, v_dim;
  float scale;
};

/// 32-bit words of packed keys, of packed values and of scratch for one task.
int64_t packed_keys(const AttentionHead& head);
int64_t packed_values(const AttentionHead& head);
int64_t attention_scratch(const AttentionHead& head);

/// Keys as pairs of elements, a block of 64 keys side by side; values as pairs of keys.
void pack_keys(const AttentionHead& head, uint32_t* packed);
void pack_values(const AttentionHead& head, uint32_t* packed);

/// Queries first .. first + count (at most kQueryBlock) against all the keys that they may see.
void attend(const AttentionHead& head, const uint32_t* keys, const uint32_t* values, int64_t first,
            int64_t count, uint32_t* scratch);

/// A key head of one sequence and the `group` query heads that share it. `*_stride` leads from
/// token to token, `*_next` from one query head to the next; y and its gradient lie alike.
struct AttentionGroup {
  const uint16_t *q, *k, *v, *y, *dy;
  const float* lse;
  uint16_t *dq, *dk, *dv;
  int64_t q_stride, q_next, k_stride, v_stride, y_stride, y_next, lse_stride;
  int64_t dq_stride, dq_next, dk_stride, dv_stride;
  int64_t group, queries, keys, dim, v_dim;
  float scale;
};

/// 32-bit words of scratch.
int64_t backward_scratch(const AttentionGroup& group);
/// Writes dq, dk and dv.
void attend_backward(const AttentionGroup& group, uint32_t* scratch);

}  // namespace farskip::kernels::avx512
