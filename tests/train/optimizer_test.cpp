// AdamW against its formula, and the learning rate at its corners.
#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "train/learning_rate.h"

namespace farskip::train {
namespace {

at::Tensor random(at::IntArrayRef shape, int64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

model::Parameter trained(const char* name, at::Tensor value) {
  model::Parameter parameter{name, std::move(value), {}};
  parameter.train();
  return parameter;
}

TEST(AdamW, FollowsItsFormulaAndSparesNormsFromDecay) {
  model::Parameter matrix = trained("matrix", random({3, 4}, 1));
  model::Parameter norm = trained("norm", random({4}, 2));
  model::Parameter frozen{"frozen", random({4}, 3), {}};
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-6, .weight_decay = 0.3};
  AdamW optimizer(whole({&matrix, &norm, &frozen}), options);
  EXPECT_EQ(optimizer.owned().size(), 2u);
  for (model::Parameter* parameter : {&matrix, &norm}) {
    at::Tensor value = parameter->value.detach().clone();
    at::Tensor m = at::zeros_like(value), v = at::zeros_like(value);
    const double decay = parameter == &matrix ? 0.3 : 0;
    for (int64_t step = 1; step <= 3; ++step) {
      const at::Tensor g = random(value.sizes(), 10 + step) * 0.5;
      m = 0.8 * m + 0.2 * g;
      v = 0.9 * v + 0.1 * g * g;
      const double lr = 0.01 * step;
      value = value * (1 - lr * decay) - lr * (m / (1 - std::pow(0.8, step))) /
                                             ((v / (1 - std::pow(0.9, step))).sqrt() + 1e-6);
    }
    parameter->gradient.zero_();
    for (int64_t step = 1; step <= 3; ++step) {
      AdamW alone(whole({parameter}),
                  options);  // the same parameter by itself, restored in between
      static std::map<std::string, at::Tensor> saved;
      if (step > 1)
        alone.restore(step - 1, [&](const std::string& name, int64_t begin, int64_t count) {
          return saved.at(name).narrow(0, begin, count);
        });
      parameter->gradient.copy_(random(value.sizes(), 10 + step));
      alone.step(0.01 * step, 0.5);
      saved.clear();
      for (const auto& [name, begin, tensor] : alone.state()) saved[name] = tensor.clone();
    }
    EXPECT_LT((parameter->value.detach() - value).abs().max().item<double>(), 1e-12);
  }
}

TEST(AdamW, MastersKeepWhatBfloat16WouldRoundAway) {
  model::Parameter parameter = trained("w", at::ones({2, 2}, at::kBFloat16));
  AdamW optimizer(whole({&parameter}), {.weight_decay = 0});
  parameter.gradient.fill_(1);
  for (int i = 0; i < 100; ++i) optimizer.step(1e-3, 1);
  EXPECT_NEAR(parameter.value.detach().max().item<double>(), 0.9, 4e-3);
  EXPECT_EQ(optimizer.state().size(), 3u);
}

TEST(AdamW, CountsTiedParametersOnceAndSeesWhatIsNotFinite) {
  model::Parameter embedding = trained("embedding", random({3, 4}, 1));
  model::Parameter head = embedding;
  AdamW optimizer(whole({&embedding, &head}), {});
  embedding.gradient.fill_(2);
  EXPECT_DOUBLE_EQ(optimizer.squared_norm(), 12 * 4.0);
  embedding.gradient[1][1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(optimizer.squared_norm()));
}

TEST(LearningRate, WarmsUpAndFallsToItsEnd) {
  const LearningRate rate{.peak = 1, .final = 0.1, .warmup = 4, .steps = 24};
  EXPECT_DOUBLE_EQ(rate.at(0), 0.25);
  EXPECT_DOUBLE_EQ(rate.at(3), 1);
  EXPECT_DOUBLE_EQ(rate.at(4), 1);
  EXPECT_NEAR(rate.at(14), 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(rate.at(24), 0.1);
  EXPECT_DOUBLE_EQ((LearningRate{.peak = 2, .final = 0, .warmup = 0, .steps = 1}).at(0), 2);
}

}  // namespace
}  // namespace farskip::train
