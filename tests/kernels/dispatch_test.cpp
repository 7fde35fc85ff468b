#include "kernels/dispatch.h"

#include <torch/csrc/autograd/autograd.h>

#include "kernels/compare.h"
#include "kernels/generic.h"
#include "kernels/opmath.h"
#include "util/error.h"

namespace farskip::kernels {

namespace {

struct Case {
  int64_t tokens, top_k, experts, size;
};
constexpr Case kCases[] = {
    {1, 1, 1, 9}, {5, 2, 4, 16}, {33, 4, 64, 130}, {16, 8, 8, 65}, {0, 2, 4, 8}};

// Distinct experts for every token, as a router gives.
at::Tensor choose(const Case& c) {
  return at::rand({c.tokens, c.experts}).argsort(int64_t{-1}).slice(1, 0, c.top_k).contiguous();
}

}  // namespace

TEST(Dispatch, PlanIsAStableSortByExpert) {
  for (const Case& c : kCases) {
    const at::Tensor experts = choose(c);
    const Plan found = plan(experts, c.experts);
    const at::Tensor order = std::get<1>(experts.flatten().sort(true, 0, false));
    EXPECT_TRUE(at::equal(found.pairs, order));
    EXPECT_TRUE(at::equal(found.tokens, order.floor_divide(c.top_k)));
    EXPECT_EQ(found.offsets.front(), 0);
    EXPECT_EQ(found.offsets.back(), found.rows);
    for (int64_t e = 0; e < c.experts; ++e) {
      const at::Tensor own = order.slice(0, found.offsets[e], found.offsets[e + 1]);
      EXPECT_TRUE(experts.flatten().index_select(0, own).eq(e).all().item<bool>());
    }
    for (int64_t t = 0; t < c.tokens; ++t) {
      EXPECT_TRUE(at::equal(found.rows_of_token[t], found.tokens.eq(t).nonzero().flatten()));
    }
  }
  EXPECT_THROW(plan(at::full({2, 1}, 4, at::kLong), 4), Error);
  EXPECT_THROW(plan(at::full({2, 1}, -1, at::kLong), 4), Error);
}

TEST(Dispatch, MatchesThePlainFormulas) {
  for (const auto dtype : kDtypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(util::concat(at::toString(dtype), " ", c.tokens, " tokens, size ", c.size));
      const Plan order = plan(choose(c), c.experts);
      const at::Tensor x = normal({c.tokens, c.size}, dtype);
      const at::Tensor outputs = normal({order.rows, c.size}, dtype);
      EXPECT_TRUE(at::equal(gather_rows(x, order.tokens), x.index_select(0, order.tokens)));
      EXPECT_TRUE(at::equal(scatter_rows(outputs, order, c.tokens),
                            generic::scatter_rows(outputs, order, c.tokens)));
      for (const auto weight_dtype : {dtype, opmath(dtype)}) {
        const at::Tensor weights = normal({c.tokens, c.top_k}, weight_dtype);
        for (const auto accumulate : {Accumulate::kOpmath, Accumulate::kDtype}) {
          expect_close(combine(outputs, weights, order, accumulate),
                       generic::combine(outputs, weights, order, accumulate), "combine");
        }
        const auto found = combine_backward(x, outputs, weights, order);
        const auto expected = generic::combine_backward(x, outputs, weights, order);
        EXPECT_TRUE(at::equal(found.outputs, expected.outputs));
        expect_close(found.weights, expected.weights, "grad weights");
      }
    }
  }
}

TEST(Dispatch, AbsentSlotsHaveNoRowsAndNoGradient) {
  const int64_t tokens = 9, size = 33;
  at::Tensor experts = choose({tokens, 3, 6, size});
  experts = experts.masked_fill(experts.ge(4), -1);  // of another rank
  experts[5].fill_(-1);
  const Plan some = plan(experts, 4, Slots::some);
  EXPECT_EQ(some.rows, experts.ge(0).sum().item<int64_t>());
  EXPECT_EQ(plan(at::full({3, 2}, -1, at::kLong), 4, Slots::some).rows, 0);
  // The same as those of the experts from 10 on, among others.
  const Plan of = plan_of(at::where(experts.ge(0), experts + 10, 7), 10, 4);
  EXPECT_TRUE(of.pairs.equal(some.pairs) && of.rows_of_token.equal(some.rows_of_token));
  EXPECT_EQ(of.offsets, some.offsets);
  for (const auto dtype : kDtypes) {
    const at::Tensor rows = normal({some.rows, size}, dtype), x = normal({tokens, size}, dtype);
    const at::Tensor sum = scatter_rows(rows, some, tokens);
    EXPECT_TRUE(at::equal(sum, generic::scatter_rows(rows, some, tokens)));
    EXPECT_EQ(sum[5].abs().sum().item<double>(), 0);
    const at::Tensor weights = normal({tokens, 3}, opmath(dtype));
    for (const auto accumulate : {Accumulate::kOpmath, Accumulate::kDtype}) {
      const at::Tensor y = combine(rows, weights, some, accumulate);
      expect_close(y, generic::combine(rows, weights, some, accumulate), "combine");
      EXPECT_EQ(y[5].abs().sum().item<double>(), 0);
    }
    const auto found = combine_backward(x, rows, weights, some);
    expect_close(found.weights, generic::combine_backward(x, rows, weights, some).weights,
                 "weights");
    EXPECT_EQ(found.weights.masked_select(experts.lt(0)).abs().sum().item<double>(), 0);
    // Rows that lie apart, as in a message.
    const at::Tensor wide = normal({some.rows, size + 8}, dtype);
    const at::Tensor y = at::zeros({tokens, size + 3}, dtype);
    const at::Tensor order = at::arange(tokens).remainder(some.rows);
    gather_rows_into(y.narrow(1, 0, size), wide.narrow(1, 8, size), order);
    EXPECT_TRUE(at::equal(y.narrow(1, 0, size), wide.narrow(1, 8, size).index_select(0, order)));
    EXPECT_EQ(y.narrow(1, size, 3).abs().sum().item<double>(), 0);
  }
}

TEST(Dispatch, RoundsEveryStepOnlyWhenAskedTo) {
  // 1 + 2^-8 is not a bfloat16: rounded at each addition the small terms vanish, else they add up.
  const Plan order = plan(at::tensor({0, 1, 2}, at::kLong).view({1, 3}), 3);
  const at::Tensor outputs = at::tensor({1.0, 1.0 / 256, 1.0 / 256}).to(at::kBFloat16).view({3, 1});
  const at::Tensor ones = at::ones({1, 3}, at::kFloat);
  EXPECT_EQ(combine(outputs, ones, order, Accumulate::kDtype).item<float>(), 1.0f);
  EXPECT_EQ(combine(outputs, ones, order, Accumulate::kOpmath).item<float>(), 1.0078125f);
}

TEST(Dispatch, BackwardIsTheGradientOfForward) {
  const Case c{11, 3, 6, 21};
  const Plan order = plan(choose(c), c.experts);
  const at::Tensor x = normal({c.tokens, c.size}, at::kDouble).requires_grad_(true);
  const at::Tensor weights = normal({c.tokens, c.top_k}, at::kDouble).requires_grad_(true);
  const at::Tensor outputs = normal({order.rows, c.size}, at::kDouble).requires_grad_(true);
  const at::Tensor grad = normal({c.tokens, c.size}, at::kDouble);
  const at::Tensor grad_rows = normal({order.rows, c.size}, at::kDouble);
  const at::Tensor scaled = outputs * weights.flatten().index_select(0, order.pairs).unsqueeze(-1);
  const at::Tensor y =
      at::zeros({c.tokens, c.size}, at::kDouble).index_add(0, order.tokens, scaled);
  const auto expected = torch::autograd::grad({y}, {outputs, weights}, {grad});
  const at::Tensor expected_x =
      torch::autograd::grad({x.index_select(0, order.tokens)}, {x}, {grad_rows})[0];
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto as = [&](const at::Tensor& t) { return t.detach().to(dtype); };
    expect_close(combine(as(outputs), as(weights), order, Accumulate::kOpmath), as(y), "combine");
    const auto found = combine_backward(as(grad), as(outputs), as(weights), order);
    expect_close(found.outputs, as(expected[0]), "outputs");
    expect_close(found.weights, as(expected[1]), "weights");
    expect_close(scatter_rows(as(grad_rows), order, c.tokens), as(expected_x), "x");
  }
}

TEST(Dispatch, ThreadsDoNotChangeBits) {
  const Case c{600, 4, 16, 513};
  const Plan order = plan(choose(c), c.experts);
  const at::Tensor x = normal({c.tokens, c.size}, at::kBFloat16);
  const at::Tensor rows = normal({order.rows, c.size}, at::kBFloat16);
  const at::Tensor weights = normal({c.tokens, c.top_k}, at::kFloat);
  expect_thread_independent([&] { return gather_rows(x, order.tokens); });
  expect_thread_independent([&] { return scatter_rows(rows, order, c.tokens); });
  expect_thread_independent([&] { return combine(rows, weights, order, Accumulate::kOpmath); });
  expect_thread_independent([&] { return combine_backward(x, rows, weights, order).weights; });
}

}  // namespace farskip::kernels
