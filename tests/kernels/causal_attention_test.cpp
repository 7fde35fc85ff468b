#include "kernels/causal_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace farskip::kernels {
namespace {

struct Shape {
  int64_t rows, queries, keys, heads, kv_heads, dim, v_dim;
};

class CausalAttentionShapes : public testing::TestWithParam<Shape> {};

/// The plain formula on wide copies [N, heads, dim], with autograd's own gradients.
at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s,
                 double scale) {
  const auto wide = [&](const at::Tensor& t, bool repeat) {
    const at::Tensor x = t.reshape({s.rows, -1, t.size(1), t.size(2)}).transpose(1, 2);
    return repeat ? x.repeat_interleave(s.heads / s.kv_heads, 1) : x;
  };
  at::Tensor scores = at::matmul(wide(q, false), wide(k, true).transpose(-1, -2)) * scale;
  const at::Tensor seen = at::ones({s.queries, s.keys}, at::kBool).tril(s.keys - s.queries);
  scores = scores.masked_fill(seen.logical_not(), -INFINITY);
  return at::matmul(scores.softmax(-1), wide(v, true))
      .transpose(1, 2)
      .reshape({s.rows * s.queries, s.heads * s.v_dim});
}

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / (expected.norm() + 1e-9)).item<double>();
}

TEST_P(CausalAttentionShapes, EqualsThePlainFormulaAndItsGradients) {
  const Shape s = GetParam();
  at::manual_seed(1);
  const auto options = at::TensorOptions(at::kBFloat16);
  const at::Tensor q = at::randn({s.rows * s.queries, s.heads, s.dim}, options);
  // Keys and values as slices of one tensor, as latent attention has them.
  const at::Tensor kv = at::randn({s.rows * s.keys, s.kv_heads, s.dim + s.v_dim}, options);
  const at::Tensor k = kv.narrow(-1, 0, s.dim), v = kv.narrow(-1, s.dim, s.v_dim);
  if (!causal_attention_supported(q, k, v)) GTEST_SKIP() << "no AVX512_BF16";
  const double scale = 0.3;
  const CausalAttention found = causal_attention(q, k, v, s.rows, scale);
  const at::Tensor dy = at::randn_like(found.y);
  const auto gradients = causal_attention_backward(dy, q, k, v, found, s.rows, scale);

  const auto leaf = [](const at::Tensor& t) {
    return t.to(at::kDouble).contiguous().requires_grad_(true);
  };
  const at::Tensor wide_q = leaf(q), wide_k = leaf(k), wide_v = leaf(v);
  const at::Tensor expected = plain(wide_q, wide_k, wide_v, s, scale);
  expected.backward(dy.to(at::kDouble));
  const at::Tensor error = (found.y.to(at::kDouble) - expected).abs();
  EXPECT_LT((error / (expected.abs() + 0.3)).max().item<double>(), 0.02);
  EXPECT_LT(error.mean().item<double>(), 2e-3);
  EXPECT_LT(relative_error(gradients.v, wide_v.grad()), 5e-3);
  if (s.keys > 1) {  // of one key's probability, which is 1, there is no gradient but rounding
    EXPECT_LT(relative_error(gradients.q, wide_q.grad()), 1e-2);
    EXPECT_LT(relative_error(gradients.k, wide_k.grad()), 1e-2);
  }

  // The same bits with any number of threads.
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(causal_attention(q, k, v, s.rows, scale).y.equal(found.y));
  const auto again = causal_attention_backward(dy, q, k, v, found, s.rows, scale);
  EXPECT_TRUE(again.q.equal(gradients.q) && again.k.equal(gradients.k) &&
              again.v.equal(gradients.v));
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CausalAttentionShapes,
                         testing::Values(Shape{2, 24, 24, 3, 3, 10, 5}, Shape{1, 1, 1, 1, 1, 2, 1},
                                         Shape{1, 130, 130, 4, 2, 96, 64},
                                         Shape{2, 7, 100, 2, 1, 33, 80},
                                         Shape{1, 65, 129, 6, 3, 192, 128},
                                         Shape{1, 48, 512, 1, 1, 64, 64}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace farskip::kernels
