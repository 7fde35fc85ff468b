#include "kernels/isa/causal_attention_avx512.h"

#include <immintrin.h>
#include <math.h>

namespace farskip::kernels::avx512 {
namespace {

#include "kernels/isa/attention_tiles.inl"

constexpr float kNever = -1e30f;

int64_t pairs_of(const AttentionHead& head) {
  return (head.dim + 1) / 2;
}
int64_t columns_of(const AttentionHead& head) {
  return rounded_up(head.v_dim, 16);
}

/// Running softmax of one task's queries.
struct State {
  float maximum[kQueryBlock];
  float total[kQueryBlock];
};

/// One tile: kRows queries against one block of keys; `visible[r]` keys of it count for row r.
void tile(const AttentionHead& head, const uint32_t* q, const uint32_t* keys,
          const uint32_t* values, const int64_t* visible, float* maximum, float* total,
          float* output) {
  __m512 s[kRows][kVectors];
  for (auto& row : s)
    for (auto& vector : row) vector = _mm512_setzero_ps();
  const int64_t pairs = pairs_of(head), columns = columns_of(head);
  multiply({q, pairs, 1}, keys, kKeyBlock, pairs, s);

  alignas(64) uint32_t probabilities[kRows][kKeyBlock / 2];
  const __m512 scale = _mm512_set1_ps(head.scale);
  _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r) {
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) s[r][v] = _mm512_mask_mul_ps(
        _mm512_set1_ps(kNever), first_lanes(visible[r] - 16 * v), s[r][v], scale);
    const float here = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(s[r][0], s[r][1]), _mm512_max_ps(s[r][2], s[r][3])));
    if (here > maximum[r]) {
      const __m512 shrink =
          exponential(_mm512_set1_ps(maximum[r] <= kNever ? kNever : maximum[r] - here));
      maximum[r] = here;
      total[r] *= _mm512_cvtss_f32(shrink);
      for (int64_t c = 0; c < columns; c += 16) {
        float* at = output + r * columns + c;
        _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), shrink));
      }
    }
    const __m512 m = _mm512_set1_ps(maximum[r]);
    __m512 sum = _mm512_setzero_ps();
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) {
      s[r][v] = exponential(_mm512_sub_ps(s[r][v], m));
      sum = _mm512_add_ps(sum, s[r][v]);
    }
    total[r] += _mm512_reduce_add_ps(sum);
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; v += 2)
        _mm512_store_si512(probabilities[r] + 8 * v,
                           reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(s[r][v + 1], s[r][v])));
  }
  add_product({probabilities[0], kKeyBlock / 2, 1}, values, columns, kKeyBlock / 2, output);
}

}  // namespace

int64_t packed_keys(const AttentionHead& head) {
  return rounded_up(head.keys, kKeyBlock) * pairs_of(head);
}
int64_t packed_values(const AttentionHead& head) {
  return rounded_up(head.keys, kKeyBlock) / 2 * columns_of(head);
}
int64_t attention_scratch(const AttentionHead& head) {
  return kQueryBlock * (pairs_of(head) + columns_of(head));
}

void pack_keys(const AttentionHead& head, uint32_t* packed) {
  pack_transposed({head.k, head.k_stride, head.keys, head.dim}, rounded_up(head.keys, kKeyBlock),
                  packed);
}

void pack_values(const AttentionHead& head, uint32_t* packed) {
  pack_row_pairs({head.v, head.v_stride, head.keys, head.v_dim}, rounded_up(head.keys, kKeyBlock),
                 columns_of(head), packed);
}

void attend(const AttentionHead& head, const uint32_t* keys, const uint32_t* values, int64_t first,
            int64_t count, uint32_t* scratch) {
  const int64_t pairs = pairs_of(head), columns = columns_of(head);
  const int64_t past = head.keys - head.queries;
  uint32_t* queries = scratch;
  float* output = reinterpret_cast<float*>(scratch + kQueryBlock * pairs);
  State state;
  pack_rows({head.q, head.q_stride, head.queries, head.dim}, first, kQueryBlock, queries);
  for (int64_t i = 0; i < kQueryBlock * columns; ++i) output[i] = 0;
  for (int64_t r = 0; r < kQueryBlock; ++r) {
    state.maximum[r] = kNever;
    state.total[r] = 0;
  }

  const int64_t last_seen = past + first + count;  // keys that the last query sees
  for (int64_t begin = 0; begin < last_seen; begin += kKeyBlock) {
    for (int64_t r = 0; r < count; r += kRows) {
      int64_t visible[kRows];
      bool any = false;
      for (int i = 0; i < kRows; ++i) {
        visible[i] = past + first + r + i + 1 - begin;
        any |= visible[i] > 0;
      }
      if (!any) continue;
      tile(head, queries + r * pairs, keys + begin * pairs, values + begin / 2 * columns, visible,
           state.maximum + r, state.total + r, output + r * columns);
    }
  }

  for (int64_t r = 0; r < count; ++r) {
    store_scaled(output + r * columns, _mm512_set1_ps(1.0f / state.total[r]), head.v_dim,
                 head.out + (first + r) * head.out_stride);
    head.lse[(first + r) * head.lse_stride] = state.maximum[r] + logf(state.total[r]);
  }
}

}  // namespace farskip::kernels::avx512
