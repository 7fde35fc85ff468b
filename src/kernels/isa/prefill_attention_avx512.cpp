#include "kernels/isa/prefill_attention_avx512.h"

#include <immintrin.h>

namespace farskip::kernels::avx512 {
namespace {

constexpr int kRows = 6;     // queries of one tile of registers
constexpr int kVectors = 4;  // 64 keys, or 64 columns of values, in vectors of 16
constexpr float kNever = -1e30f;

uint32_t pair(uint16_t low, uint16_t high) {
  return low | static_cast<uint32_t>(high) << 16;
}

/// e^x for x <= 0: 2^n by scalef, 2^f, |f| <= 1/2, by a polynomial of degree 6; error below 1e-7.
__m512 exponential(__m512 x) {
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(t, n);
  __m512 p = _mm512_set1_ps(1.5403530393381609e-4f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3333558146428443e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.618129107628477e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550410866482158e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402265069591007e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931471805599453e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

/// The products of a tile: a [kRows][pairs] against b [pairs][64], both as pairs of bfloat16.
inline __attribute__((always_inline)) void multiply(const uint32_t* a, int64_t a_stride,
                                                    const uint32_t* b, int64_t b_stride,
                                                    int64_t pairs, __m512 (&sum)[kRows][kVectors]) {
  for (int64_t i = 0; i < pairs; ++i) {
    __m512bh column[kVectors];
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) column[v] =
        reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + i * b_stride + 16 * v));
    _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r) {
      const auto row = reinterpret_cast<__m512bh>(_mm512_set1_epi32(a[r * a_stride + i]));
      _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) sum[r][v] =
          _mm512_dpbf16_ps(sum[r][v], row, column[v]);
    }
  }
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
  multiply(q, head.pairs(), keys, kKeyBlock, head.pairs(), s);

  alignas(64) uint32_t probabilities[kRows][kKeyBlock / 2];
  const int64_t columns = head.v_columns();
  const __m512 scale = _mm512_set1_ps(head.scale);
  _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r) {
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) {
      const int64_t count = visible[r] - 16 * v;
      const __mmask16 seen = count >= 16  ? 0xffff
                             : count <= 0 ? 0
                                          : static_cast<__mmask16>((1u << count) - 1);
      s[r][v] = _mm512_mask_mul_ps(_mm512_set1_ps(kNever), seen, s[r][v], scale);
    }
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

  for (int64_t c = 0; c < columns; c += 64) {
    _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r)
        _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) s[r][v] =
            _mm512_loadu_ps(output + r * columns + c + 16 * v);
    multiply(probabilities[0], kKeyBlock / 2, values + c, columns, kKeyBlock / 2, s);
    _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r)
        _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v)
            _mm512_storeu_ps(output + r * columns + c + 16 * v, s[r][v]);
  }
}

}  // namespace

void pack_keys(const AttentionHead& head, uint32_t* packed) {
  const int64_t pairs = head.pairs();
  for (int64_t key = 0; key < head.key_blocks() * kKeyBlock; ++key) {
    uint32_t* block = packed + key / kKeyBlock * kKeyBlock * pairs + key % kKeyBlock;
    const uint16_t* from = head.k + key * head.k_stride;
    for (int64_t i = 0; i < pairs; ++i) {
      const bool odd = 2 * i + 1 == head.dim;
      block[i * kKeyBlock] =
          key < head.keys ? pair(from[2 * i], odd ? uint16_t{0} : from[2 * i + 1]) : 0;
    }
  }
}

void pack_values(const AttentionHead& head, uint32_t* packed) {
  const int64_t columns = head.v_columns();
  for (int64_t key = 0; key < head.key_blocks() * kKeyBlock; key += 2) {
    const uint16_t* low = head.v + key * head.v_stride;
    const uint16_t* high = low + head.v_stride;
    uint32_t* row = packed + key / 2 * columns;
    for (int64_t c = 0; c < columns; ++c) {
      const bool inside = c < head.v_dim;
      row[c] = pair(inside && key < head.keys ? low[c] : uint16_t{0},
                    inside && key + 1 < head.keys ? high[c] : uint16_t{0});
    }
  }
}

void attend(const AttentionHead& head, const uint32_t* keys, const uint32_t* values, int64_t first,
            int64_t count, uint32_t* scratch) {
  const int64_t pairs = head.pairs(), columns = head.v_columns(), past = head.keys - head.queries;
  uint32_t* queries = scratch;
  float* output = reinterpret_cast<float*>(scratch + kQueryBlock * pairs);
  State state;
  for (int64_t r = 0; r < kQueryBlock; ++r) {
    const uint16_t* from = head.q + (first + r) * head.q_stride;
    for (int64_t i = 0; i < pairs; ++i) {
      const bool odd = 2 * i + 1 == head.dim;
      queries[r * pairs + i] =
          r < count ? pair(from[2 * i], odd ? uint16_t{0} : from[2 * i + 1]) : 0;
    }
    for (int64_t c = 0; c < columns; ++c) output[r * columns + c] = 0;
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
    const __m512 inverse = _mm512_set1_ps(1.0f / state.total[r]);
    uint16_t* to = head.out + (first + r) * head.out_stride;
    for (int64_t c = 0; c < head.v_dim; c += 16) {
      const __m512 y = _mm512_mul_ps(_mm512_loadu_ps(output + r * columns + c), inverse);
      const int64_t left = head.v_dim - c;
      const __mmask16 mask =
          left >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << left) - 1);
      _mm256_mask_storeu_epi16(to + c, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(y)));
    }
  }
}

}  // namespace farskip::kernels::avx512
