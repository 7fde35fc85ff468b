#include <immintrin.h>

#include "kernels/isa/causal_attention_avx512.h"

namespace farskip::kernels::avx512 {
namespace {

#include "kernels/isa/attention_tiles.inl"

constexpr int64_t kQueryPairs = kQueryBlock / 2;
/// Keys of a block are rows of the transposed products, kRows at a time; the last tile runs over.
constexpr int64_t kKeyRows = (kKeyBlock + kRows - 1) / kRows * kRows;

/// Sizes of everything in the scratch memory, in words of 32 bits.
struct Sizes {
  int64_t queries, keys;       ///< padded to whole blocks
  int64_t pairs, v_pairs;      ///< of the elements of a key and of a value
  int64_t columns, v_columns;  ///< the same padded to vectors
  int64_t per_query, per_head;

  explicit Sizes(const AttentionGroup& a)
      : queries(rounded_up(a.queries, kQueryBlock)),
        keys(rounded_up(a.keys, kKeyBlock)),
        pairs((a.dim + 1) / 2),
        v_pairs((a.v_dim + 1) / 2),
        columns(rounded_up(a.dim, 16)),
        v_columns(rounded_up(a.v_dim, 16)),
        per_query(pairs + v_pairs + columns + 2),
        per_head(queries * per_query + queries / 2 * (columns + v_columns)) {}
};

/// One query head: its operands packed both ways, its gradient adding up.
struct Head {
  uint32_t *q_rows, *dy_rows;    ///< left operands [queries][pairs]
  uint32_t *q_pairs, *dy_pairs;  ///< right operands [queries / 2][columns]
  float* dq;                     ///< [queries][columns]
  float *lse, *delta;            ///< [queries]; delta = dy . y

  Head(const Sizes& n, uint32_t* memory)
      : q_rows(memory),
        dy_rows(q_rows + n.queries * n.pairs),
        q_pairs(dy_rows + n.queries * n.v_pairs),
        dy_pairs(q_pairs + n.queries / 2 * n.columns),
        dq(reinterpret_cast<float*>(dy_pairs + n.queries / 2 * n.v_columns)),
        lse(dq + n.queries * n.columns),
        delta(lse + n.queries) {}
};

float lifted(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

void pack(const AttentionGroup& a, int64_t index, const Sizes& n, const Head& head) {
  const Source q{a.q + index * a.q_next, a.q_stride, a.queries, a.dim};
  const Source dy{a.dy + index * a.y_next, a.y_stride, a.queries, a.v_dim};
  const Source y{a.y + index * a.y_next, a.y_stride, a.queries, a.v_dim};
  pack_rows(q, 0, n.queries, head.q_rows);
  pack_rows(dy, 0, n.queries, head.dy_rows);
  pack_row_pairs(q, n.queries, n.columns, head.q_pairs);
  pack_row_pairs(dy, n.queries, n.v_columns, head.dy_pairs);
  for (int64_t i = 0; i < n.queries * n.columns; ++i) head.dq[i] = 0;
  for (int64_t row = 0; row < a.queries; ++row) {
    float sum = 0;
    for (int64_t c = 0; c < a.v_dim; ++c) sum += lifted(dy.at(row, c)) * lifted(y.at(row, c));
    head.delta[row] = sum;
    head.lse[row] = a.lse[row * a.lse_stride + index];
  }
}

/// Probabilities and gradients of the scores of one block of queries and keys, in bfloat16.
struct Block {
  alignas(64) uint32_t p[kQueryPairs][kKeyRows + 14];   ///< pairs of queries, for products by key
  alignas(64) uint32_t ds[kQueryPairs][kKeyRows + 14];  ///< (rows of whole cache lines)
  alignas(64) uint32_t ds_rows[kRows][kKeyBlock / 2];   ///< pairs of keys, of one tile
};
constexpr int64_t kBlockStride = kKeyRows + 14;

/// Two rows of floats as pairs of bfloat16.
__m512i joined(__m512 low, __m512 high) {
  const auto widened = [](__m512 v) __attribute__((always_inline)) {
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
  };
  return _mm512_or_si512(widened(low), _mm512_slli_epi32(widened(high), 16));
}

/// Rows r .. r + kRows of a block of queries: fills in p, ds and ds_rows. `visible` as in attend.
void tile(const AttentionGroup& a, const Sizes& n, const Head& head, int64_t query,
          const uint32_t* keys, const uint32_t* values, const int64_t* visible, int64_t r,
          Block& block) {
  __m512 s[kRows][kVectors];
  alignas(64) float p[kRows][kKeyBlock];
  for (auto& row : s)
    for (auto& vector : row) vector = _mm512_setzero_ps();
  multiply({head.q_rows + query * n.pairs, n.pairs, 1}, keys, kKeyBlock, n.pairs, s);
  const __m512 scale = _mm512_set1_ps(a.scale);
  _Pragma("GCC unroll 8") for (int i = 0; i < kRows; ++i) {
    const __m512 lse = _mm512_set1_ps(visible[i] > 0 ? head.lse[query + i] : 0);
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) {
      const __m512 x = exponential(_mm512_fmsub_ps(s[i][v], scale, lse));
      _mm512_store_ps(p[i] + 16 * v, _mm512_maskz_mov_ps(first_lanes(visible[i] - 16 * v), x));
      s[i][v] = _mm512_setzero_ps();
    }
  }
  multiply({head.dy_rows + query * n.v_pairs, n.v_pairs, 1}, values, kKeyBlock, n.v_pairs, s);
  _Pragma("GCC unroll 8") for (int i = 0; i < kRows; ++i) {
    const __m512 delta = _mm512_set1_ps(visible[i] > 0 ? head.delta[query + i] : 0);
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) s[i][v] = _mm512_maskz_mul_ps(
        first_lanes(visible[i] - 16 * v), _mm512_mul_ps(_mm512_sub_ps(s[i][v], delta), scale),
        _mm512_load_ps(p[i] + 16 * v));
    _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; v += 2)
        _mm512_store_si512(block.ds_rows[i] + 8 * v,
                           reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(s[i][v + 1], s[i][v])));
  }
  _Pragma("GCC unroll 8") for (int i = 0; i < kRows; i += 2)
      _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) {
    const int64_t row = (r + i) / 2;
    _mm512_storeu_si512(block.ds[row] + 16 * v, joined(s[i][v], s[i + 1][v]));
    _mm512_storeu_si512(block.p[row] + 16 * v,
                        joined(_mm512_load_ps(p[i] + 16 * v), _mm512_load_ps(p[i + 1] + 16 * v)));
  }
}

/// One block of queries, from `first` on, against one of keys, from `begin` on.
void accumulate(const AttentionGroup& a, const Sizes& n, const Head& head, int64_t first,
                int64_t begin, const uint32_t* keys, const uint32_t* key_pairs,
                const uint32_t* values, Block& block, float* dk, float* dv) {
  const int64_t past = a.keys - a.queries;
  for (int64_t r = 0; r < kQueryBlock; r += kRows) {
    int64_t visible[kRows];
    for (int i = 0; i < kRows; ++i) {
      const int64_t query = first + r + i;
      visible[i] = query < a.queries ? past + query + 1 - begin : 0;
    }
    tile(a, n, head, first + r, keys, values, visible, r, block);
    add_product({block.ds_rows[0], kKeyBlock / 2, 1}, key_pairs, n.columns, kKeyBlock / 2,
                head.dq + (first + r) * n.columns);
  }
  for (int64_t key = 0; key < kKeyRows; key += kRows) {
    add_product({block.p[0] + key, 1, kBlockStride}, head.dy_pairs + first / 2 * n.v_columns,
                n.v_columns, kQueryPairs, dv + key * n.v_columns);
    add_product({block.ds[0] + key, 1, kBlockStride}, head.q_pairs + first / 2 * n.columns,
                n.columns, kQueryPairs, dk + key * n.columns);
  }
}

}  // namespace

int64_t backward_scratch(const AttentionGroup& a) {
  const Sizes n(a);
  return n.keys * (n.pairs + n.v_pairs) + n.keys / 2 * n.columns + a.group * n.per_head +
         kKeyRows * (n.columns + n.v_columns);
}

void attend_backward(const AttentionGroup& a, uint32_t* scratch) {
  const Sizes n(a);
  uint32_t* keys = scratch;
  uint32_t* values = keys + n.keys * n.pairs;
  uint32_t* key_pairs = values + n.keys * n.v_pairs;
  uint32_t* heads = key_pairs + n.keys / 2 * n.columns;
  float* dk = reinterpret_cast<float*>(heads + a.group * n.per_head);
  float* dv = dk + kKeyRows * n.columns;
  const auto head_of = [&](int64_t index) { return Head(n, heads + index * n.per_head); };

  pack_transposed({a.k, a.k_stride, a.keys, a.dim}, n.keys, keys);
  pack_transposed({a.v, a.v_stride, a.keys, a.v_dim}, n.keys, values);
  pack_row_pairs({a.k, a.k_stride, a.keys, a.dim}, n.keys, n.columns, key_pairs);
  for (int64_t index = 0; index < a.group; ++index) pack(a, index, n, head_of(index));

  Block block = {};
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int64_t begin = 0; begin < a.keys; begin += kKeyBlock) {
    for (int64_t i = 0; i < kKeyRows * (n.columns + n.v_columns); ++i) dk[i] = 0;
    const int64_t first_seeing = begin - (a.keys - a.queries);  // the first query that sees a key
    const int64_t from = first_seeing > 0 ? first_seeing / kQueryBlock * kQueryBlock : 0;
    for (int64_t index = 0; index < a.group; ++index)
      for (int64_t first = from; first < a.queries; first += kQueryBlock)
        accumulate(a, n, head_of(index), first, begin, keys + begin * n.pairs,
                   key_pairs + begin / 2 * n.columns, values + begin * n.v_pairs, block, dk, dv);
    for (int64_t key = 0; key < kKeyBlock && begin + key < a.keys; ++key) {
      store_scaled(dk + key * n.columns, one, a.dim, a.dk + (begin + key) * a.dk_stride);
      store_scaled(dv + key * n.v_columns, one, a.v_dim, a.dv + (begin + key) * a.dv_stride);
    }
  }
  for (int64_t index = 0; index < a.group; ++index)
    for (int64_t query = 0; query < a.queries; ++query)
      store_scaled(head_of(index).dq + query * n.columns, one, a.dim,
                   a.dq + query * a.dq_stride + index * a.dq_next);
}

}  // namespace farskip::kernels::avx512
