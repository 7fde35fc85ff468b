// Causal attention of many queries at once, in bfloat16, and its gradients.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// Whether causal_attention runs these: bfloat16 on a processor with AVX512_BF16, rows contiguous.
bool causal_attention_supported(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

struct CausalAttention {
  at::Tensor y;    ///< [rows Tq, heads Dv]
  at::Tensor lse;  ///< float32 [rows Tq, heads]: log of the sum of the scores' exponentials
};

/// softmax(scale q k^T) v over `rows` sequences of equal length. q [rows Tq, heads, D], k
/// [rows Tk, kv_heads, D] and v [rows Tk, kv_heads, Dv], each with contiguous last dimension; heads
/// is a multiple of kv_heads. The queries are those of the last Tq of the Tk positions. Scores and
/// softmax are float32; probabilities are rounded to bfloat16 before they meet the values (online
/// softmax over blocks of keys; Dao et al. 2022).
CausalAttention causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 int64_t rows, double scale);

struct CausalAttentionGradients {
  at::Tensor q, k, v;  ///< in the shapes of the inputs, contiguous
};

/// From the gradient of y, which is like y; scores are computed anew from q, k and lse, block by
/// block (Dao et al. 2022, algorithm 4). Gradients of query heads that share a key head are summed
/// in float32, head by head.
CausalAttentionGradients causal_attention_backward(const at::Tensor& dy, const at::Tensor& q,
                                                   const at::Tensor& k, const at::Tensor& v,
                                                   const CausalAttention& forward, int64_t rows,
                                                   double scale);

}  // namespace farskip::kernels
