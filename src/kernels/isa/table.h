// The inner loops, once for each instruction set: raw pointers and ranges only, so that the files
// compiled with other flags share no inline function with the rest of the program (the linker
// keeps one copy of such a function, and it must not be the one for a newer processor).
// Every function works on a range [begin, end) of independent items and computes the same bits
// however the range is cut. Statistics and sums are float.
#pragma once
#include <stdint.h>

namespace farskip::kernels::isa {

struct bf16 {
  uint16_t bits;
};

enum class Level { kBaseline, kAvx2, kAvx512Bf16 };

/// Operands of the routed experts; pairs are in plan order (dispatch.h).
template <class T>
struct Experts {
  const T* x;                    ///< [pairs,H], gathered
  const T* gate_up;              ///< [E,2F,H]
  const T* down;                 ///< [E,H,F]
  T* hidden;                     ///< [pairs,F], written by experts_up, read by experts_down
  T* outputs;                    ///< [pairs,H], scratch of experts_down
  T* y;                          ///< [tokens,H]
  const float* weights;          ///< [tokens*k], rounded to T when by_dtype
  const int64_t* active;         ///< the experts that have rows
  const int64_t* offsets;        ///< [E+1]
  const int64_t* pairs;          ///< [pairs]: token * k + slot
  const int64_t* rows_of_token;  ///< [tokens,k]
  int64_t active_count, tokens, top_k, hidden_size, width;
  bool by_dtype;  ///< Accumulate::kDtype
};
constexpr int64_t kExpertBlock = 32;  ///< rows of a weight in one item of experts_up/experts_down

/// A run of places of one page, of one sequence and key/value head.
struct AttentionItem {
  int64_t sequence, kv_head, page, begin, end;
};
constexpr int64_t kAttentionBlock = 128;  ///< most places of an item

template <class T>
struct Attention {
  const T *q, *keys, *values;                ///< q [B,heads,D] contiguous
  int64_t key_strides[3], value_strides[3];  ///< of page, place, head
  int64_t heads, group, key_dim, value_dim;  ///< group = query heads a key/value head
  float scale;
  const AttentionItem* items;
  float* partial;  ///< [items, group, value_dim + 2]: sum of p v, maximum, sum of p
};

/// The step's constants, computed in double: m = keep1 m + add1 g, v = keep2 v + add2 g^2,
/// value = decay value - rate m / (correction sqrt(v) + eps).
struct AdamW {
  float gradient_scale, keep1, add1, keep2, add2, decay, rate, correction, eps;
};

template <class T>
struct Kernels {
  /// rstd may be null.
  void (*rms_norm)(const T* x, int64_t stride, const T* weight, T* y, float* rstd, int64_t begin,
                   int64_t end, int64_t size, float eps);
  /// grad_x and grad_weight [size] (added into) may be null.
  void (*rms_norm_backward)(const T* grad_y, const T* x, int64_t stride, const T* weight,
                            const float* rstd, T* grad_x, float* grad_weight, int64_t begin,
                            int64_t end, int64_t size);
  /// The first of the greatest values; -1 where one is not finite. 0 < size < 2^32.
  int64_t (*argmax)(const T* x, int64_t size);
  void (*swiglu)(const T* gate_up, T* y, int64_t begin, int64_t end, int64_t width);
  void (*swiglu_backward)(const T* grad, const T* gate_up, T* grad_gate_up, int64_t begin,
                          int64_t end, int64_t width);
  void (*rope)(const T* x, int64_t token_stride, int64_t head_stride, const float* cos,
               const float* sin, T* y, int64_t begin, int64_t end, int64_t heads, int64_t dim,
               bool interleaved, bool inverse);
  /// A negative row ends the list of its token.
  void (*scatter_rows)(const T* rows, const int64_t* rows_of_token, int64_t top_k, T* y,
                       int64_t begin, int64_t end, int64_t size);
  /// weights [tokens*k], rounded to T when by_dtype.
  void (*combine)(const T* outputs, const float* weights, const int64_t* pairs,
                  const int64_t* rows_of_token, int64_t top_k, bool by_dtype, T* y, int64_t begin,
                  int64_t end, int64_t size);
  /// Items are rows of the plan; grad_weights [tokens*k].
  void (*combine_backward)(const T* grad, const T* outputs, const float* weights,
                           const int64_t* pairs, int64_t top_k, T* grad_outputs,
                           float* grad_weights, int64_t begin, int64_t end, int64_t size);
  /// Items are rows of weight.
  void (*small_linear)(const T* x, int64_t x_stride, int64_t n, const T* weight,
                       int64_t weight_stride, int64_t depth, T* y, int64_t y_stride, int64_t begin,
                       int64_t end);
  /// y[i, c] = sum over r of x[i, r] weight[r, c]; items are columns.
  void (*small_linear_transposed)(const T* x, int64_t x_stride, int64_t n, const T* weight,
                                  int64_t weight_stride, int64_t depth, T* y, int64_t y_stride,
                                  int64_t begin, int64_t end);
  /// Items: active_count * ceil(width / kExpertBlock).
  void (*experts_up)(const Experts<T>& experts, int64_t begin, int64_t end);
  /// Items: ceil(hidden_size / kExpertBlock).
  void (*experts_down)(const Experts<T>& experts, int64_t begin, int64_t end);
  void (*attention)(const Attention<T>& attention, int64_t begin, int64_t end);
  /// Joins the parts of one head, `count` of them `stride` floats apart, into y [value_dim];
  /// overwrites their maxima.
  void (*attention_join)(float* parts, int64_t count, int64_t stride, int64_t value_dim, T* y);
  void (*accumulate)(float* sum, const T* from, int64_t begin, int64_t end);
  /// value may be null.
  void (*adamw)(T* value, float* master, const float* gradient, float* m, float* v, int64_t begin,
                int64_t end, const AdamW& step);
};

struct Table {
  Level level;
  Kernels<bf16> bfloat16;
  Kernels<float> float32;
};

/// The table of the best level that this processor and build have, at most the one named by the
/// environment variable FARSKIP_ISA (baseline, avx2 or avx512) when it is set. Chosen once.
const Table& table();

}  // namespace farskip::kernels::isa
