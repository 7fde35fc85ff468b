// Vectors of kLanes floats and their loads and stores as bfloat16 or float. Included inside the
// namespace of one instruction set. GCC's vector extensions stand for whatever registers the flags
// give; only the few places that gain from a special instruction name one.

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define FARSKIP_AVX512 1
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

#define FARSKIP_INLINE static inline __attribute__((always_inline))
#define FARSKIP_LAMBDA __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef float LooseVec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef uint32_t LooseBits __attribute__((vector_size(4 * kLanes), aligned(2), may_alias));
typedef uint16_t LooseHalves __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));

/// How many lanes of a step are in use: all (known when compiling) or the first few of a row's end.
struct All {
  static constexpr int count = kLanes;
};
struct First {
  int count;
};

/// f(i, All) over the full vectors of [0, n), then f(i, First) for what is left.
template <class F>
FARSKIP_INLINE void for_vectors(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, All{});
  if (i < n) f(i, First{static_cast<int>(n - i)});
}

FARSKIP_INLINE Vec broadcast(float value) {
  return Vec{} + value;
}

FARSKIP_INLINE Vec load(const float* p, All) {
  return *reinterpret_cast<const LooseVec*>(p);
}
FARSKIP_INLINE Vec load(const bf16* p, All) {
#ifdef FARSKIP_AVX512  // GCC 12 widens and narrows in several steps
  const Bits bits = (Bits)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
#else
  const Bits bits = __builtin_convertvector(*reinterpret_cast<const LooseHalves*>(p), Bits);
#endif
  return (Vec)(bits << 16);
}

/// The nearest bfloat16 (ties to even, NaN stays NaN) in the low half of each lane.
FARSKIP_INLINE Bits nearest_bf16(Vec v) {
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return v != v ? (Bits{} + 0x7fc0u) : rounded;
}
FARSKIP_INLINE void store(float* p, Vec v, All) {
  *reinterpret_cast<LooseVec*>(p) = v;
}
FARSKIP_INLINE void store(bf16* p, Vec v, All) {
#ifdef FARSKIP_AVX512
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)nearest_bf16(v)));
#else
  *reinterpret_cast<LooseHalves*>(p) = __builtin_convertvector(nearest_bf16(v), Halves);
#endif
}

/// The end of a row passes through a padded copy, so that it meets the same arithmetic.
template <class T>
FARSKIP_INLINE Vec load(const T* p, First lanes) {
  T padded[kLanes] = {};
  for (int i = 0; i < lanes.count; ++i) padded[i] = p[i];
  return load(padded, All{});
}
template <class T>
FARSKIP_INLINE void store(T* p, Vec v, First lanes) {
  T padded[kLanes];
  store(padded, v, All{});
  for (int i = 0; i < lanes.count; ++i) p[i] = padded[i];
}

/// v as it reads back after being stored as T.
template <class T>
FARSKIP_INLINE Vec rounded(Vec v);
template <>
inline __attribute__((always_inline)) Vec rounded<float>(Vec v) {
  return v;
}
template <>
inline __attribute__((always_inline)) Vec rounded<bf16>(Vec v) {
  return (Vec)(nearest_bf16(v) << 16);
}

/// out[j] = the sum of the lanes of v[j], in an order that is the same for every j and count.
/// AVX-512: pairs of vectors are halved into one until a lane is a sum.
#ifdef FARSKIP_AVX512
FARSKIP_INLINE __m512 halve_words(Vec a, Vec b) {
  return _mm512_unpacklo_ps((__m512)a, (__m512)b) + _mm512_unpackhi_ps((__m512)a, (__m512)b);
}
FARSKIP_INLINE __m512d as_pairs(__m512 v) {
  return _mm512_castps_pd(v);
}
FARSKIP_INLINE __m512 halve_pairs(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(as_pairs(a), as_pairs(b))) +
         _mm512_castpd_ps(_mm512_unpackhi_pd(as_pairs(a), as_pairs(b)));
}
FARSKIP_INLINE __m512 halve_quarters(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
}
template <int count>
FARSKIP_INLINE void sums(const Vec* v, float* out) {
  __m512 four[4];  // v[4 j] .. v[4 j + 3] summed within quarters; what is absent repeats the first
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto at = [&](int i) FARSKIP_LAMBDA { return v[4 * j + i < count ? 4 * j + i : 0]; };
    four[j] =
        4 * j < count ? halve_pairs(halve_words(at(0), at(1)), halve_words(at(2), at(3))) : four[0];
  }
  const __m512 eight = halve_quarters(four[0], four[1]);
  const __m512 all = halve_quarters(eight, count > 8 ? halve_quarters(four[2], four[3]) : eight);
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << count) - 1), all);
}
#else
template <int count>
FARSKIP_INLINE void sums(const Vec* v, float* out) {
  for (int j = 0; j < count; ++j) {
    float lanes[kLanes];
    store(lanes, v[j], All{});
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    out[j] = lanes[0];
  }
}
#endif
FARSKIP_INLINE float sum(Vec v) {
  float out;
  sums<1>(&v, &out);
  return out;
}

/// a * b + c, rounded once where the processor can. Files of this room are compiled with
/// -ffp-contract=off: which products a compiler fuses by itself varies from one block shape to the
/// next, and so would the bits.
FARSKIP_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(FARSKIP_AVX512)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

FARSKIP_INLINE Vec square_root(Vec v) {
#ifdef FARSKIP_AVX512
  return (Vec)_mm512_sqrt_ps((__m512)v);
#else
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

/// e^v to about one unit in the last place; 0 below -87 and infinity above 88.4. v is split as
/// n ln 2 + r with |r| <= ln(2) / 2, e^r is its Taylor polynomial.
FARSKIP_INLINE Vec exponential(Vec v) {
  const Vec low = broadcast(-87.0f);
  const Vec high = broadcast(88.7f);
  Vec x = v < low ? low : v;
  x = x > high ? high : x;
  const float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  const Vec shifted = x * 1.44269504f + kToInteger;
  const Vec n = shifted - kToInteger;
  // ln 2 in two parts, the first with few bits, so that n times it is exact.
  const Vec r = multiply_add(n, broadcast(2.12194440e-4f), x - n * 0.693359375f);
  Vec p = broadcast(1.0f / 5040);
  p = multiply_add(p, r, broadcast(1.0f / 720));
  p = multiply_add(p, r, broadcast(1.0f / 120));
  p = multiply_add(p, r, broadcast(1.0f / 24));
  p = multiply_add(p, r, broadcast(1.0f / 6));
  p = multiply_add(p, r, broadcast(0.5f));
  p = multiply_add(p, r, broadcast(1.0f));
  p = multiply_add(p, r, broadcast(1.0f));
  const Bits exponent = ((Bits)shifted - 0x4b400000u + 127u) << 23;
  return v < low ? Vec{} : p * (Vec)exponent;
}
