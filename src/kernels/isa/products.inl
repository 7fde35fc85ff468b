// Products of a few rows with many weight rows: each weight is read from memory once. One output
// has one vector accumulator that runs along the depth, whatever stands beside it in a block, so
// its bits depend on nothing else.

/// A step along the depth of a dot product: kWidth elements of both rows.
template <class T>
struct Dot {
  static constexpr int kWidth = kLanes;
  using Operand = Vec;
  FARSKIP_INLINE Operand get(const T* p) { return load(p, All{}); }
  FARSKIP_INLINE Operand get(const T* p, int count) { return load(p, First{count}); }
  FARSKIP_INLINE Vec step(Vec total, Operand a, Operand b) { return multiply_add(a, b, total); }
};
#ifdef FARSKIP_AVX512
template <>
struct Dot<bf16> {
  static constexpr int kWidth = 32;
  using Operand = __m512i;
  FARSKIP_INLINE Operand get(const bf16* p) { return _mm512_loadu_si512(p); }
  FARSKIP_INLINE Operand get(const bf16* p, int count) {
    return _mm512_maskz_loadu_epi16((1u << count) - 1, p);
  }
  FARSKIP_INLINE Vec step(Vec total, Operand a, Operand b) {
    return (Vec)_mm512_dpbf16_ps((__m512)total, (__m512bh)a, (__m512bh)b);
  }
};
#endif

constexpr int kMostRows = 8;  // rows of x in one block

/// results[i * kRows + r] = x_i . weight_r for kRows weight rows side by side and n rows of x. Sums
/// of all are taken together.
template <class T, int kRows, int n>
FARSKIP_INLINE void dot_block(const T* x, int64_t x_stride, const T* weight, int64_t weight_stride,
                              int64_t depth, float* results) {
  using D = Dot<T>;
  Vec total[n * kRows] = {};
  const auto add = [&](auto get) FARSKIP_LAMBDA {
    typename D::Operand in[n];
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) in[i] = get(x + i * x_stride);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename D::Operand w = get(weight + r * weight_stride);
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) total[i * kRows + r] = D::step(total[i * kRows + r], w, in[i]);
    }
  };
  int64_t k = 0;
  for (; k + D::kWidth <= depth; k += D::kWidth) {
    add([k](const T* row) FARSKIP_LAMBDA { return D::get(row + k); });
  }
  if (k < depth) {
    const int rest = static_cast<int>(depth - k);
    add([k, rest](const T* row) FARSKIP_LAMBDA { return D::get(row + k, rest); });
  }
  sums<n * kRows>(total, results);
}

/// The rows are cut into kRows parts that are read at once, each as one long stream: neighbours
/// side by side, in one page, come at half the speed.
template <class T, int n>
void dots_of(const T* x, int64_t x_stride, const T* weight, int64_t weight_stride, int64_t depth,
             int64_t rows, float* out, int64_t out_stride) {
  constexpr int kAccumulators = kLanes == 16 ? 16 : 8;
  constexpr int kRows = n * 4 <= kAccumulators ? 4 : (n * 2 <= kAccumulators ? 2 : 1);
  const int64_t part = rows / kRows;
  float results[n * kRows];
  for (int64_t r = 0; r < part; ++r) {
    dot_block<T, kRows, n>(x, x_stride, weight + r * weight_stride, part * weight_stride, depth,
                           results);
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 4
      for (int s = 0; s < kRows; ++s) out[i * out_stride + s * part + r] = results[i * kRows + s];
    }
  }
  for (int64_t r = part * kRows; r < rows; ++r) {
    dot_block<T, 1, n>(x, x_stride, weight + r * weight_stride, 0, depth, results);
    for (int i = 0; i < n; ++i) out[i * out_stride + r] = results[i];
  }
}

/// out[i * out_stride + r] = x_i . weight_r for 1 <= n <= kMostRows.
template <class T>
void dots(const T* x, int64_t x_stride, int64_t n, const T* weight, int64_t weight_stride,
          int64_t depth, int64_t rows, float* out, int64_t out_stride) {
  switch (n) {
#define FARSKIP_CASE(N) \
  case N:               \
    return dots_of<T, N>(x, x_stride, weight, weight_stride, depth, rows, out, out_stride);
    FARSKIP_CASE(1)
    FARSKIP_CASE(2)
    FARSKIP_CASE(3)
    FARSKIP_CASE(4)
    FARSKIP_CASE(5)
    FARSKIP_CASE(6)
    FARSKIP_CASE(7)
    FARSKIP_CASE(8)
#undef FARSKIP_CASE
  }
}

/// out[i * out_stride + c] = sum over r of p[i * p_stride + r] * rows_[r, c], for n rows of p and
/// one or two vectors of columns.
template <class T, int n, int kVectors, class Lanes>
FARSKIP_INLINE void weigh_block(const float* p, int64_t p_stride, const T* rows,
                                int64_t rows_stride, int64_t count, Lanes lanes, float* out,
                                int64_t out_stride) {
  Vec total[n][kVectors] = {};
  for (int64_t r = 0; r < count; ++r) {
    const T* row = rows + r * rows_stride;
    __builtin_prefetch(row + 8 * rows_stride);
    Vec v[kVectors];
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) v[c] = load(row + c * kLanes, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) {
        total[i][c] = multiply_add(v[c], broadcast(p[i * p_stride + r]), total[i][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) store(out + i * out_stride + c * kLanes, total[i][c], lanes);
  }
}

template <class T, int n>
void weigh_of(const float* p, int64_t p_stride, const T* rows, int64_t rows_stride, int64_t count,
              int64_t columns, float* out, int64_t out_stride) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= columns; c += 2 * kLanes) {
    weigh_block<T, n, 2>(p, p_stride, rows + c, rows_stride, count, All{}, out + c, out_stride);
  }
  for (; c + kLanes <= columns; c += kLanes) {
    weigh_block<T, n, 1>(p, p_stride, rows + c, rows_stride, count, All{}, out + c, out_stride);
  }
  if (c < columns) {
    weigh_block<T, n, 1>(p, p_stride, rows + c, rows_stride, count,
                         First{static_cast<int>(columns - c)}, out + c, out_stride);
  }
}

/// Sums of rows weighted by p: out [n, columns], 1 <= n <= kMostRows.
template <class T>
void weigh(const float* p, int64_t p_stride, int64_t n, const T* rows, int64_t rows_stride,
           int64_t count, int64_t columns, float* out, int64_t out_stride) {
  switch (n) {
#define FARSKIP_CASE(N) \
  case N:               \
    return weigh_of<T, N>(p, p_stride, rows, rows_stride, count, columns, out, out_stride);
    FARSKIP_CASE(1)
    FARSKIP_CASE(2)
    FARSKIP_CASE(3)
    FARSKIP_CASE(4)
    FARSKIP_CASE(5)
    FARSKIP_CASE(6)
    FARSKIP_CASE(7)
    FARSKIP_CASE(8)
#undef FARSKIP_CASE
  }
}
