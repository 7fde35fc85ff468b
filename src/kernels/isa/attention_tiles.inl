// Tiles of products of bfloat16 pairs, which causal attention and its backward are made of.
// Included inside an anonymous namespace by files compiled for AVX512_BF16.

constexpr int kRows = 6;     // rows of one tile of registers
constexpr int kVectors = 4;  // 64 columns, in vectors of 16

int64_t rounded_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

uint32_t pair(uint16_t low, uint16_t high) {
  return low | static_cast<uint32_t>(high) << 16;
}

/// e^x for x <= 0, and a little above: 2^n by scalef, 2^f, |f| <= 1/2, by a polynomial of degree 6;
/// relative error below 1e-7.
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

/// The first `count` lanes of 16; none below 1, all from 16 on.
__mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

/// How pairs of a left operand lie: words from row to row and from pair to pair.
struct Left {
  const uint32_t* pairs;
  int64_t row_stride, pair_stride;
};

/// sum[r][v] += the products of kRows rows of `a` and `count` pairs with b [count][16 V].
template <int V>
inline __attribute__((always_inline)) void multiply(const Left& a, const uint32_t* b,
                                                    int64_t b_stride, int64_t count,
                                                    __m512 (&sum)[kRows][V]) {
  for (int64_t i = 0; i < count; ++i) {
    __m512bh column[V];
    _Pragma("GCC unroll 8") for (int v = 0; v < V; ++v) column[v] =
        reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + i * b_stride + 16 * v));
    _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r) {
      const auto row = reinterpret_cast<__m512bh>(
          _mm512_set1_epi32(a.pairs[r * a.row_stride + i * a.pair_stride]));
      _Pragma("GCC unroll 8") for (int v = 0; v < V; ++v) sum[r][v] =
          _mm512_dpbf16_ps(sum[r][v], row, column[v]);
    }
  }
}

template <int V>
void add_columns(const Left& a, const uint32_t* b, int64_t stride, int64_t count, float* out) {
  __m512 sum[kRows][V];
  _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r)
      _Pragma("GCC unroll 8") for (int v = 0; v < V; ++v) sum[r][v] =
          _mm512_loadu_ps(out + r * stride + 16 * v);
  multiply(a, b, stride, count, sum);
  _Pragma("GCC unroll 8") for (int r = 0; r < kRows; ++r)
      _Pragma("GCC unroll 8") for (int v = 0; v < V; ++v)
          _mm512_storeu_ps(out + r * stride + 16 * v, sum[r][v]);
}

/// out [kRows][columns] += kRows rows of `a` times b [count][columns]; columns a multiple of 16.
void add_product(const Left& a, const uint32_t* b, int64_t columns, int64_t count, float* out) {
  int64_t c = 0;
  for (; c + 64 <= columns; c += 64) add_columns<4>(a, b + c, columns, count, out + c);
  if (columns - c == 48) add_columns<3>(a, b + c, columns, count, out + c);
  if (columns - c == 32) add_columns<2>(a, b + c, columns, count, out + c);
  if (columns - c == 16) add_columns<1>(a, b + c, columns, count, out + c);
}

/// Rows of `width` elements of which `rows` are there, `stride` apart.
struct Source {
  const uint16_t* data;
  int64_t stride, rows, width;

  uint16_t at(int64_t row, int64_t column) const {
    return row < rows && column < width ? data[row * stride + column] : uint16_t{0};
  }
  int64_t pairs() const { return (width + 1) / 2; }
};

/// Pairs of elements of a row: a left operand [rows][pairs], zeros from source.rows on.
void pack_rows(const Source& source, int64_t first, int64_t rows, uint32_t* packed) {
  const int64_t pairs = source.pairs();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < pairs; ++i)
      packed[r * pairs + i] = pair(source.at(first + r, 2 * i), source.at(first + r, 2 * i + 1));
}

/// Pairs of elements of a row with 64 rows side by side: a right operand [pairs][64] for each
/// block of rows.
void pack_transposed(const Source& source, int64_t rows, uint32_t* packed) {
  const int64_t pairs = source.pairs();
  for (int64_t row = 0; row < rows; ++row) {
    uint32_t* block = packed + row / 64 * 64 * pairs + row % 64;
    for (int64_t i = 0; i < pairs; ++i)
      block[i * 64] = pair(source.at(row, 2 * i), source.at(row, 2 * i + 1));
  }
}

/// Pairs of rows: a right operand [rows / 2][columns], zeros where the source has nothing.
void pack_row_pairs(const Source& source, int64_t rows, int64_t columns, uint32_t* packed) {
  for (int64_t row = 0; row < rows; row += 2)
    for (int64_t c = 0; c < columns; ++c)
      packed[row / 2 * columns + c] = pair(source.at(row, c), source.at(row + 1, c));
}

/// `count` floats times `factor`, rounded to bfloat16.
void store_scaled(const float* from, __m512 factor, int64_t count, uint16_t* to) {
  for (int64_t c = 0; c < count; c += 16)
    _mm256_mask_storeu_epi16(to + c, first_lanes(count - c),
                             reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(
                                 _mm512_mul_ps(_mm512_loadu_ps(from + c), factor))));
}
