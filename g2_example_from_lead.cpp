#include <immintrin.h>
#include <sys/mman.h>
#include <chrono>
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <algorithm>
template <int PF> void seq(const uint16_t* x, const uint16_t* w, int64_t K, int64_t M, float* y) {
  for (int64_t r = 0; r < M; ++r) { const uint16_t* p = w + r * K; __m512 a[4]; for (auto& v : a) v = _mm512_setzero_ps();
    for (int64_t k = 0; k < K; k += 128) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) { if (PF) _mm_prefetch((const char*)(p + k + 32 * j) + PF, _MM_HINT_T0);
        a[j] = _mm512_dpbf16_ps(a[j], (__m512bh)_mm512_loadu_si512(p + k + 32 * j), (__m512bh)_mm512_loadu_si512(x + k + 32 * j)); } }
    y[r] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a[0], a[1]), _mm512_add_ps(a[2], a[3]))); } }
template <int R, int PF> void rows(const uint16_t* x, const uint16_t* w, int64_t K, int64_t M, float* y) {
  for (int64_t r = 0; r < M; r += R) { const uint16_t* p = w + r * K; __m512 a[R]; for (auto& v : a) v = _mm512_setzero_ps();
    for (int64_t k = 0; k < K; k += 32) { auto xv = (__m512bh)_mm512_loadu_si512(x + k);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) { if (PF) _mm_prefetch((const char*)(p + k + j * K) + PF, _MM_HINT_T0);
        a[j] = _mm512_dpbf16_ps(a[j], (__m512bh)_mm512_loadu_si512(p + k + j * K), xv); } }
    for (int j = 0; j < R; ++j) y[r + j] = _mm512_reduce_add_ps(a[j]); } }
void just(const uint16_t* x, const uint16_t* w, int64_t K, int64_t M, float* y) {
  __m512i a[4]; for (auto& v : a) v = _mm512_setzero_si512();
  for (int64_t k = 0; k < K * M; k += 128)
#pragma GCC unroll 4
   for (int j = 0; j < 4; ++j) a[j] = _mm512_add_epi32(a[j], _mm512_loadu_si512(w + k + 32 * j));
  y[0] = _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(a[0], a[1]), _mm512_add_epi32(a[2], a[3]))); }
int main() {
  int64_t M = 200000, K = 512; size_t bytes = M * K * 2;
  static float y[200000]; static uint16_t x[512];
  for (int huge = 0; huge < 2; ++huge) {
    char* p = (char*)mmap(0, bytes + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p = (char*)(((size_t)p + (2 << 20) - 1) & ~((size_t)(2 << 20) - 1)); madvise(p, bytes + 8192, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(p, 0, bytes + 8192); auto w = (uint16_t*)p;
    auto time = [&](const char* n, auto f) { double b = 1e9; for (int i = 0; i < 15; ++i) { auto t = std::chrono::steady_clock::now(); f(x, w, K, M, y); b = std::min(b, std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count()); } printf("huge %d %-12s %.2f GB/s\n", huge, n, bytes / b * 1e-9); };
    time("just", just); time("seq", seq<0>); time("seq 512", seq<512>); time("seq 1024", seq<1024>); time("seq 2048", seq<2048>); time("seq 4096", seq<4096>); time("seq 8192", seq<8192>);
    time("rows4", rows<4, 0>); time("rows4 pf4096", rows<4, 4096>); time("rows8", rows<8, 0>); time("rows2", rows<2, 0>); time("rows2 pf", rows<2, 2048>); time("rows2 pf4096", rows<2, 4096>);
  }
}
