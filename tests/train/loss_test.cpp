// The fused, chunked head and loss against the plain formulas under autograd.
#include "train/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

namespace farskip::train {
namespace {

struct Setting {
  at::ScalarType dtype;
  Objective objective;
  double temperature;
  int64_t chunk;
  bool masked;
  double tolerance;  ///< relative to the largest entry
};

class LossSettings : public testing::TestWithParam<Setting> {};

at::Tensor random(at::IntArrayRef shape, double scale, int64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator, at::kDouble) * scale;
}

double distance(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).abs().max() / expected.abs().max()).item<double>();
}

TEST_P(LossSettings, EqualsPlainLossAndItsGradients) {
  const Setting setting = GetParam();
  const int64_t tokens = 23, hidden = 12, vocabulary = 57;
  const double weight = 0.125;
  const auto rounded = [&](at::Tensor t) { return t.to(setting.dtype); };
  const at::Tensor h = rounded(random({tokens, hidden}, 1, 1));
  const at::Tensor teacher_h = rounded(random({tokens, hidden + 4}, 1, 2));
  const at::Tensor teacher_head = rounded(random({vocabulary, hidden + 4}, 1, 3));
  const at::Tensor targets = at::arange(tokens) * 7 % vocabulary;
  const at::Tensor rows =
      setting.masked ? at::tensor({1, 2, 5, 9, 10, 11, 22}, at::kLong) : at::arange(tokens);
  model::Parameter head{"lm_head.weight", rounded(random({vocabulary, hidden}, 1, 4)), {}};
  head.train();
  head.gradient.fill_(0.5);  // a gradient that is there already must be added to

  HeadInput input{.hidden = h,
                  .head = head.value,
                  .teacher_hidden = teacher_h,
                  .teacher_head = teacher_head,
                  .targets = targets,
                  .rows = setting.masked ? rows : at::Tensor(),
                  .temperature = setting.temperature,
                  .chunk = setting.chunk};
  const HeadLoss found = head_loss(input, head, setting.objective, weight);
  const HeadSums sums = head_statistics(input);

  const double tau = setting.temperature;
  const at::Tensor x = h.to(at::kDouble).requires_grad_();
  const at::Tensor w = head.value.detach().to(at::kDouble).requires_grad_();
  const at::Tensor student = at::mm(x.index_select(0, rows), w.t());
  const at::Tensor teacher =
      at::mm(teacher_h.to(at::kDouble).index_select(0, rows), teacher_head.to(at::kDouble).t());
  const at::Tensor log_s = (student / tau).log_softmax(1), log_t = (teacher / tau).log_softmax(1);
  const at::Tensor target = targets.index_select(0, rows);
  const at::Tensor kl = tau * tau * (log_t.exp() * (log_t - log_s)).sum();
  const at::Tensor cross_entropy = -log_s.gather(1, target.unsqueeze(1)).sum();
  const at::Tensor loss = weight * (setting.objective == Objective::kl ? kl : cross_entropy);
  torch::autograd::backward({loss}, {at::ones_like(loss)});

  const double expected = loss.item<double>();
  EXPECT_NEAR(found.loss, expected, setting.tolerance * std::abs(expected));
  EXPECT_TRUE(found.finite);
  EXPECT_LT(distance(found.grad_hidden, x.grad()), setting.tolerance);
  EXPECT_LT(distance(head.gradient - 0.5, w.grad()), setting.tolerance);
  EXPECT_EQ(found.grad_hidden.scalar_type(), setting.dtype);

  EXPECT_EQ(sums.rows, rows.numel());
  EXPECT_NEAR(sums.kl, kl.item<double>(), setting.tolerance * kl.item<double>());
  EXPECT_NEAR(sums.cross_entropy, cross_entropy.item<double>(),
              setting.tolerance * cross_entropy.item<double>());
  if (setting.dtype == at::kDouble) {
    EXPECT_EQ(sums.agree, student.argmax(1).eq(teacher.argmax(1)).sum().item<int64_t>());
    EXPECT_EQ(sums.correct, student.argmax(1).eq(target).sum().item<int64_t>());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LossSettings,
    testing::Values(Setting{at::kDouble, Objective::kl, 1, 0, false, 1e-10},
                    Setting{at::kDouble, Objective::kl, 1, 7, false, 1e-10},
                    Setting{at::kDouble, Objective::kl, 2.5, 1, true, 1e-10},
                    Setting{at::kDouble, Objective::kl, 0.5, 22, false, 1e-10},
                    Setting{at::kDouble, Objective::cross_entropy, 1, 5, true, 1e-10},
                    Setting{at::kDouble, Objective::cross_entropy, 2, 23, false, 1e-10},
                    Setting{at::kFloat, Objective::kl, 1.5, 4, true, 1e-5},
                    Setting{at::kFloat, Objective::cross_entropy, 1, 6, false, 1e-5},
                    Setting{at::kBFloat16, Objective::kl, 1, 4, true, 2e-2},
                    Setting{at::kBFloat16, Objective::cross_entropy, 1, 6, false, 2e-2}));

TEST(Loss, FrozenHeadGetsNoGradientAndHiddenStillDoes) {
  const model::Parameter head{"lm_head.weight", random({9, 4}, 1, 1), {}};
  const HeadInput input{.hidden = random({3, 4}, 1, 2),
                        .targets = at::tensor({1, 2, 3}, at::kLong)};
  const HeadLoss found = head_loss(input, head, Objective::cross_entropy, 1);
  EXPECT_GT(found.grad_hidden.abs().min().item<double>(), 0);
}

/// Ranks give way to another micro-batch there, and must do so alike, whatever rows each has.
TEST(Loss, CallsHalfwayOnceHoweverManyRowsThereAre) {
  model::Parameter head{"lm_head.weight", random({7, 4}, 1, 3).to(at::kFloat), {}};
  head.train();
  for (const int64_t count : {0, 1, 5, 23})
    for (const int64_t chunk : {1, 4, 100}) {
      int called = 0;
      head_loss({.hidden = random({23, 4}, 1, 2).to(at::kFloat),
                 .targets = at::arange(23) % 7,
                 .rows = at::arange(count),
                 .chunk = chunk,
                 .halfway = [&] { ++called; }},
                head, Objective::cross_entropy, 1);
      EXPECT_EQ(called, 1) << count << " rows, chunks of " << chunk;
    }
}

TEST(Loss, ReportsNumbersThatAreNotFinite) {
  const model::Parameter head{"lm_head.weight", random({9, 4}, 1, 1), {}};
  at::Tensor hidden = random({3, 4}, 1, 2);
  hidden[1][2] = std::numeric_limits<double>::infinity();
  const HeadInput input{.hidden = hidden, .targets = at::tensor({1, 2, 3}, at::kLong)};
  EXPECT_FALSE(head_loss(input, head, Objective::cross_entropy, 1).finite);
}

TEST(Loss, HiddenDistanceEqualsItsFormula) {
  const std::vector<at::Tensor> teacher{random({6, 4}, 1, 1), random({6, 4}, 1, 2)};
  std::vector<at::Tensor> student{random({6, 4}, 1, 3), random({6, 4}, 1, 4)};
  const at::Tensor rows = at::tensor({0, 3, 4}, at::kLong);
  at::Tensor expected = at::zeros({}, at::kDouble);
  for (size_t k = 0; k < 2; ++k) {
    student[k].requires_grad_();
    expected = expected + (student[k] - teacher[k]).index_select(0, rows).square().sum() / 3;
  }
  torch::autograd::backward({expected}, {at::ones_like(expected)});
  const HiddenLoss found = hidden_l2(student, teacher, rows, 1.0 / 3);
  EXPECT_NEAR(found.loss, expected.item<double>(), 1e-10);
  for (size_t k = 0; k < 2; ++k) EXPECT_LT(distance(found.grads[k], student[k].grad()), 1e-12);
}

}  // namespace
}  // namespace farskip::train
