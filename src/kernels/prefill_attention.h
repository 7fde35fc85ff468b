// Causal attention of many queries at once, in bfloat16, without gradients.
#pragma once
#include <ATen/core/Tensor.h>

namespace farskip::kernels {

/// Whether prefill_attention runs these: bfloat16 on a processor with AVX512_BF16, rows contiguous.
bool prefill_attention_supported(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// softmax(scale q k^T) v over `rows` sequences of equal length. q [rows Tq, heads, D], k
/// [rows Tk, kv_heads, D] and v [rows Tk, kv_heads, Dv], each with contiguous last dimension; heads
/// is a multiple of kv_heads. The queries are those of the last Tq of the Tk positions. Scores and
/// softmax are float32; probabilities are rounded to bfloat16 before they meet the values (online
/// softmax over blocks of keys; Dao et al. 2022). -> [rows Tq, heads Dv]
at::Tensor prefill_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             int64_t rows, double scale);

}  // namespace farskip::kernels
