// Two strands that take turns: their order, their ends and their errors.
#include "model/turns.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <stdexcept>
#include <string>

#include "model/differentiable.h"

namespace farskip::model {
namespace {

std::string order_of(const std::vector<Turns::Turn>& turns) {
  std::string order;
  for (const Turns::Turn& turn : turns) order += static_cast<char>('0' + turn.strand);
  return order;
}

TEST(Turns, GoToAndFroUntilBothHaveEnded) {
  struct Case {
    int first, second;  // waits
    const char* letters;
    const char* turns;
  };
  Turns turns;  // one for all runs
  for (const Case& c : {Case{0, 0, "aA", "01"},
                        {2, 2, "aAaAaA", "010101"},
                        {3, 1, "aAaAaa", "01010"},
                        {0, 2, "aAAA", "01"},
                        {1, 3, "aAaAAA", "0101"}}) {
    std::string letters;
    const auto strand = [&](char letter, int waits) {
      return [&letters, &turns, letter, waits] {
        letters += letter;
        for (int i = 0; i < waits; ++i) {
          turns.hand_over();
          letters += letter;
        }
      };
    };
    const auto taken = turns.run(strand('a', c.first), strand('A', c.second));
    EXPECT_EQ(letters, c.letters);
    EXPECT_EQ(order_of(taken), c.turns);
    for (size_t i = 1; i < taken.size(); ++i) EXPECT_EQ(taken[i].begin, taken[i - 1].end);
  }
  turns.hand_over();  // nobody is there
}

TEST(Turns, CarryTheCallersStateAndOneErrorEndsBoth) {
  Turns turns;
  const at::NoGradGuard no_grad;
  bool with_gradients = true;
  turns.run([] {}, [&] { with_gradients = at::GradMode::is_enabled(); });
  EXPECT_FALSE(with_gradients);

  int after = 0;
  const auto wait_long = [&] {
    for (int i = 0; i < 100; ++i) turns.hand_over();
    ++after;
  };
  const auto fail = [&] {
    turns.hand_over();
    throw std::runtime_error("lost");
  };
  EXPECT_THROW(turns.run(wait_long, fail), std::runtime_error);
  EXPECT_THROW(turns.run(fail, wait_long), std::runtime_error);
  EXPECT_THROW(turns.run([] { throw std::runtime_error("at once"); }, wait_long),
               std::runtime_error);
  EXPECT_EQ(after, 0) << "the other strand was ended";
  turns.run(wait_long, wait_long);
  EXPECT_EQ(after, 2) << "and the next run is whole";
}

TEST(Turns, EndABackwardPassThatGaveWay) {
  Turns turns;
  const at::AutoGradMode gradients(true);
  const at::Tensor x = at::ones({2}).requires_grad_(true);
  int finished = 0;
  const auto back = [&] {
    const at::Tensor y = differentiable([&] { return x.detach() * 2; },
                                        [&](const at::Tensor& dy) -> InputGradients {
                                          turns.hand_over();
                                          return {dy * 2};
                                        },
                                        x);
    torch::autograd::backward({y}, {at::ones_like(y)});
    ++finished;
  };
  turns.run(back, [&] { turns.hand_over(); });
  EXPECT_EQ(finished, 1);
  EXPECT_EQ(x.grad().sum().item<float>(), 4);
  EXPECT_THROW(turns.run(back, [] { throw std::runtime_error("lost"); }), std::runtime_error);
  EXPECT_EQ(finished, 1);
}

}  // namespace
}  // namespace farskip::model
