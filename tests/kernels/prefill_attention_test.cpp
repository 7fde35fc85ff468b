#include "kernels/prefill_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace farskip::kernels {
namespace {

struct Shape {
  int64_t rows, queries, keys, heads, kv_heads, dim, v_dim;
};

class PrefillAttention : public testing::TestWithParam<Shape> {};

TEST_P(PrefillAttention, EqualsThePlainFormula) {
  const Shape s = GetParam();
  at::manual_seed(1);
  const auto options = at::TensorOptions(at::kBFloat16);
  const at::Tensor q = at::randn({s.rows * s.queries, s.heads, s.dim}, options);
  // Keys and values as slices of one tensor, as latent attention has them.
  const at::Tensor kv = at::randn({s.rows * s.keys, s.kv_heads, s.dim + s.v_dim}, options);
  const at::Tensor k = kv.narrow(-1, 0, s.dim), v = kv.narrow(-1, s.dim, s.v_dim);
  if (!prefill_attention_supported(q, k, v)) GTEST_SKIP() << "no AVX512_BF16";
  const double scale = 0.3;
  const at::Tensor found = prefill_attention(q, k, v, s.rows, scale);

  const auto wide = [&](const at::Tensor& t, bool repeat) {
    const at::Tensor x =
        t.to(at::kDouble).reshape({s.rows, -1, t.size(1), t.size(2)}).transpose(1, 2);
    return repeat ? x.repeat_interleave(s.heads / s.kv_heads, 1) : x;
  };
  at::Tensor scores = at::matmul(wide(q, false), wide(k, true).transpose(-1, -2)) * scale;
  const at::Tensor seen = at::ones({s.queries, s.keys}, at::kBool).tril(s.keys - s.queries);
  scores = scores.masked_fill(seen.logical_not(), -INFINITY);
  const at::Tensor expected = at::matmul(scores.softmax(-1), wide(v, true))
                                  .transpose(1, 2)
                                  .reshape({s.rows * s.queries, s.heads * s.v_dim});
  const at::Tensor error = (found.to(at::kDouble) - expected).abs();
  EXPECT_LT((error / (expected.abs() + 0.3)).max().item<double>(), 0.02);
  EXPECT_LT(error.mean().item<double>(), 2e-3);

  // The same bits with any number of threads.
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(prefill_attention(q, k, v, s.rows, scale).equal(found));
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Shapes, PrefillAttention,
                         testing::Values(Shape{2, 24, 24, 3, 3, 10, 5}, Shape{1, 1, 1, 1, 1, 2, 1},
                                         Shape{1, 130, 130, 4, 2, 96, 64},
                                         Shape{2, 7, 100, 2, 1, 33, 80},
                                         Shape{1, 65, 129, 6, 3, 192, 128},
                                         Shape{1, 48, 512, 1, 1, 64, 64}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace farskip::kernels
