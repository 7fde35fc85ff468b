// small_linear, small_experts and decode_attention.
#include "kernels/compare.h"
#include "kernels/decode_attention.h"
#include "kernels/generic.h"
#include "kernels/opmath.h"
#include "kernels/small_experts.h"
#include "kernels/small_linear.h"
#include "util/error.h"

namespace farskip::kernels {

TEST(SmallLinear, MatchesThePlainFormulaForEachRowAlone) {
  for (const auto dtype : kDtypes) {
    for (const auto& [outputs, depth] :
         {std::pair{1, 1}, {7, 9}, {33, 64}, {130, 515}, {64, 512}}) {
      const at::Tensor wide = normal({outputs, depth + 3}, dtype);
      for (const at::Tensor& weight : {wide.slice(1, 3), wide.slice(1, 0, depth).contiguous()}) {
        const at::Tensor x = normal({16, depth}, dtype);
        for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16}) {
          SCOPED_TRACE(util::concat(at::toString(dtype), " ", n, " rows, ", outputs, " x ", depth));
          const at::Tensor some = x.slice(0, 0, n);
          const at::Tensor y = small_linear(some, weight);
          expect_close(y, generic::small_linear(some, weight), "y");
          if (!small_linear_supported(some, weight)) continue;
          for (int64_t i = 0; i < n; ++i) {
            EXPECT_TRUE(at::equal(y[i], small_linear(x.slice(0, i, i + 1), weight)[0])) << i;
          }
        }
      }
    }
  }
}

TEST(SmallLinear, SaysWhatItSupports) {
  const at::Tensor weight = normal({4, 8}, at::kBFloat16);
  const auto x = [](int64_t rows, at::ScalarType dtype) { return normal({rows, 8}, dtype); };
  EXPECT_TRUE(small_linear_supported(x(16, at::kBFloat16), weight));
  EXPECT_TRUE(small_linear_supported(x(1, at::kFloat), weight.to(at::kFloat)));
  EXPECT_FALSE(small_linear_supported(x(17, at::kBFloat16), weight));
  EXPECT_FALSE(small_linear_supported(x(1, at::kFloat), weight));
  EXPECT_FALSE(small_linear_supported(x(1, at::kDouble), weight.to(at::kDouble)));
  EXPECT_FALSE(small_linear_supported(x(1, at::kBFloat16), weight.t().contiguous().t()));
}

TEST(SmallLinear, BatchedFormsMatchThePlainFormulas) {
  for (const auto dtype : kDtypes) {
    for (const auto& [heads, outputs, depth] :
         {std::tuple{1, 1, 1}, {3, 9, 33}, {8, 128, 64}, {2, 65, 300}}) {
      // Two maps a head share one weight, as MLA's kv_b_proj does.
      const at::Tensor shared = normal({heads, 2 * outputs, depth}, dtype);
      const at::Tensor weight = shared.slice(1, outputs);
      for (const int64_t n : {1, 3, 8, 11, 16}) {
        SCOPED_TRACE(util::concat(at::toString(dtype), " ", n, " rows, ", outputs, " x ", depth));
        const at::Tensor x = normal({n, heads, depth + 2}, dtype).slice(2, 2);
        const at::Tensor y = small_batched_linear(x, weight);
        expect_close(y, generic::small_batched_linear(x, weight), "y");
        const at::Tensor back = small_batched_linear_transposed(y, weight);
        expect_close(back, generic::small_batched_linear_transposed(y, weight), "transposed");
        if (opmath(dtype) == at::kFloat && dtype != at::kHalf) {
          const at::Tensor last = y.slice(0, n - 1);
          EXPECT_TRUE(at::equal(small_batched_linear(x.slice(0, n - 1), weight), last));
          EXPECT_TRUE(at::equal(small_batched_linear_transposed(last, weight)[0], back[n - 1]));
        }
      }
    }
  }
}

TEST(SmallLinear, ThreadsDoNotChangeBits) {
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const at::Tensor x = normal({5, 515}, dtype);
    const at::Tensor weight = normal({1003, 515}, dtype);
    expect_thread_independent([&] { return small_linear(x, weight); });
    const at::Tensor heads = weight.slice(0, 0, 1000).view({8, 125, 515});
    const at::Tensor per_head = normal({5, 8, 515}, dtype);
    expect_thread_independent([&] { return small_batched_linear(per_head, heads); });
    const at::Tensor transposed = normal({5, 8, 125}, dtype);
    expect_thread_independent([&] { return small_batched_linear_transposed(transposed, heads); });
  }
}

TEST(SmallExperts, MatchesThePlainFormulaForEachTokenAlone) {
  for (const auto dtype : kDtypes) {
    for (const auto& [size, width, count, top_k] :
         {std::tuple{9, 5, 3, 1}, {64, 33, 4, 4}, {130, 96, 32, 3}}) {
      const at::Tensor gate_up = normal({count, 2 * width, size}, dtype);
      const at::Tensor down = normal({count, size, width}, dtype);
      const at::Tensor x = normal({16, size}, dtype).mul_(0.2);
      const at::Tensor experts =
          at::rand({16, count}).argsort(int64_t{-1}).slice(1, 0, top_k).contiguous();
      const at::Tensor weights = at::rand({16, top_k}).to(opmath(dtype));
      for (const auto accumulate : {Accumulate::kOpmath, Accumulate::kDtype}) {
        const auto run = [&](int64_t begin, int64_t end) {
          return small_experts(x.slice(0, begin, end), gate_up, down, experts.slice(0, begin, end),
                               weights.slice(0, begin, end), accumulate);
        };
        SCOPED_TRACE(util::concat(at::toString(dtype), " ", size, " x ", width));
        const at::Tensor y = run(0, 16);
        const at::Tensor expected =
            generic::small_experts(x, gate_up, down, experts, weights, accumulate);
        // Roundings that flip in the first layer move sums of the second: looser than one unit.
        EXPECT_TRUE(at::allclose(y, expected, 2 * unit(dtype),
                                 2 * unit(dtype) * expected.abs().max().item<double>()));
        EXPECT_LE((y - expected).abs().mean().item<double>(),
                  0.05 * unit(dtype) * expected.abs().mean().item<double>() + 1e-300);
        if (dtype == at::kDouble || dtype == at::kHalf) continue;
        EXPECT_TRUE(at::equal(run(3, 4), y.slice(0, 3, 4)));
        EXPECT_TRUE(at::equal(run(5, 14), y.slice(0, 5, 14)));
        expect_thread_independent([&] { return run(0, 16); });
      }
    }
  }
}

TEST(DecodeAttention, MatchesThePlainFormulaForEachSequenceAlone) {
  struct Case {
    int64_t heads, kv_heads, dim, value_dim;
  };
  // Pages of 160 places: longer than what is worked on at once, and no multiple of it.
  const std::vector<std::vector<int64_t>> pages = {{4}, {8, 0}, {5}, {2, 3, 7}};
  const std::vector<CachedSequence> sequences = {
      {pages[0], 1}, {pages[1], 300}, {pages[2], 128}, {pages[3], 321}};
  for (const auto dtype : kDtypes) {
    for (const Case& c : {Case{1, 1, 9, 5}, {8, 2, 64, 64}, {12, 1, 160, 128}, {6, 6, 33, 17}}) {
      // Values are a part of the keys, as in MLA, or their own strided tensor.
      const at::Tensor keys = normal({9, 160, c.kv_heads, c.dim}, dtype);
      const at::Tensor apart =
          normal({9, c.kv_heads, 160, c.value_dim + 3}, dtype).transpose(1, 2).slice(3, 3);
      for (const at::Tensor& values : {keys.slice(3, 0, std::min(c.dim, c.value_dim)), apart}) {
        SCOPED_TRACE(util::concat(at::toString(dtype), " heads ", c.heads, " dim ", c.dim));
        const at::Tensor q = normal({4, c.heads, c.dim}, dtype);
        const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
        const at::Tensor y = decode_attention(q, keys, values, sequences, scale);
        expect_close(y, generic::decode_attention(q, keys, values, sequences, scale), "y");
        // The formula itself, on a sequence whose pages are put in order by hand.
        const at::Tensor k = at::cat({keys[8], keys[0]}).slice(0, 0, 300).to(at::kDouble);
        const at::Tensor v = at::cat({values[8], values[0]}).slice(0, 0, 300).to(at::kDouble);
        const int64_t group = c.heads / c.kv_heads;
        const at::Tensor scores =
            at::einsum("hgd,lhd->hgl", {q[1].to(at::kDouble).view({c.kv_heads, group, c.dim}), k});
        const at::Tensor expected =
            at::einsum("hgl,lhd->hgd", {(scores * scale).softmax(-1), v}).view({c.heads, -1});
        EXPECT_TRUE(at::allclose(y[1].to(at::kDouble), expected, 4 * unit(dtype), 2 * unit(dtype)));
        if (dtype == at::kDouble || dtype == at::kHalf) continue;
        const auto alone = decode_attention(q.slice(0, 1, 2), keys, values,
                                            std::span(sequences).subspan(1, 1), scale);
        EXPECT_TRUE(at::equal(alone[0], y[1]));
        expect_thread_independent(
            [&] { return decode_attention(q, keys, values, sequences, scale); });
      }
    }
  }
}

TEST(DecodeAttention, RefusesPositionsOutsideTheCache) {
  const at::Tensor q = normal({1, 2, 8}, at::kFloat);
  const at::Tensor cache = normal({2, 4, 1, 8}, at::kFloat);
  for (const auto& [page, length] : {std::pair<int64_t, int64_t>{2, 1}, {-1, 1}, {0, 5}, {0, 0}}) {
    const CachedSequence sequence{{&page, 1}, length};
    EXPECT_THROW(decode_attention(q, cache, cache, {&sequence, 1}, 1), Error);
  }
  EXPECT_THROW(decode_attention(q, cache, cache, {}, 1), Error);
}

}  // namespace farskip::kernels
