// What is drawn, from which tokens, and what is said of their probabilities.
#include "engine/sampler.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "util/error.h"

namespace farskip::engine {
namespace {

/// How often each of the tokens with these probabilities is drawn.
std::vector<double> shares(const std::vector<double>& probabilities, SamplingOptions options) {
  constexpr int kDraws = 20000;
  options.seed = 3;
  Sampler sampler(options);
  const at::Tensor logits = at::tensor(probabilities).log();
  std::vector<double> share(probabilities.size());
  for (int i = 0; i < kDraws; ++i) share[sampler.sample(logits)] += 1.0 / kDraws;
  return share;
}

TEST(Sampler, DrawsFromTheTokensThatAreLeft) {
  struct Case {
    SamplingOptions options;
    std::vector<double> expected;
  };
  // Probabilities 0.1, 0.4, 0.3, 0.2.
  const Case cases[] = {
      {{.temperature = 1}, {0.1, 0.4, 0.3, 0.2}},
      {{.temperature = 0.5}, {0.01 / 0.3, 0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3}},
      {{.temperature = 1, .top_p = 0.6}, {0, 4.0 / 7, 3.0 / 7, 0}},
      {{.temperature = 1, .top_p = 0.3}, {0, 1, 0, 0}},
      {{.temperature = 1, .top_k = 3}, {0, 4.0 / 9, 3.0 / 9, 2.0 / 9}},
      {{.temperature = 1, .top_k = 100}, {0.1, 0.4, 0.3, 0.2}},
      {{.temperature = 1, .min_p = 0.6}, {0, 4.0 / 7, 3.0 / 7, 0}},
      {{.temperature = 1, .top_p = 0.75, .top_k = 2}, {0, 4.0 / 7, 3.0 / 7, 0}},
      {{.temperature = 1, .logit_bias = {{1, -100}, {0, std::log(2.0)}}},
       {2.0 / 7, 0, 3.0 / 7, 2.0 / 7}},
  };
  for (const Case& one : cases) {
    const auto found = shares({0.1, 0.4, 0.3, 0.2}, one.options);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], one.expected[i], 0.015) << &one - cases << " token " << i;
      EXPECT_EQ(found[i] == 0, one.expected[i] == 0) << &one - cases << " token " << i;
    }
  }
}

TEST(Sampler, RanksAsFarAsItNeedsTo) {
  const int64_t size = 5000;
  at::Tensor logits = at::zeros({size});  // all alike: the first ids come first
  const auto most = [&](const SamplingOptions& options) {
    Sampler sampler(options);
    int64_t highest = 0;
    for (int i = 0; i < 3000; ++i) highest = std::max(highest, sampler.sample(logits));
    return highest;
  };
  EXPECT_EQ(most({.temperature = 1, .top_k = 700}), 699);
  EXPECT_NEAR(static_cast<double>(most({.temperature = 1, .top_p = 0.5})), 2499, 30);
  logits[size - 1] = 30;
  EXPECT_EQ(Sampler({.temperature = 1, .top_p = 0.9}).sample(logits), size - 1);
}

TEST(Sampler, IsGreedyAtTemperatureZeroAndTheSameForASeed) {
  EXPECT_EQ(Sampler({}).sample(at::tensor({1.0, 2.0, 2.0})), 1);
  const at::Tensor logits = at::randn({100});
  for (const double temperature : {0.7, 1.0}) {
    Sampler a({.temperature = temperature, .seed = 5}), b({.temperature = temperature, .seed = 5});
    for (int i = 0; i < 50; ++i) EXPECT_EQ(a.sample(logits), b.sample(logits));
  }
  EXPECT_EQ(Sampler({}).sample(at::tensor({1.0, NAN})), -1);
}

TEST(Sampler, PenalisesWhatHasComeUp) {
  const at::Tensor logits = at::tensor({2.0, 1.9, 1.8, -1.0});
  // Presence counts once, frequency every time; both the output only.
  Sampler presence({.presence_penalty = 0.15}, {0, 1});
  EXPECT_EQ(presence.sample(logits), 0);
  EXPECT_EQ(presence.sample(logits), 1);
  EXPECT_EQ(presence.sample(logits), 0);  // 1.85 against 1.75 and 1.8
  Sampler frequency({.frequency_penalty = 0.15});
  std::vector<int64_t> found;
  for (int i = 0; i < 6; ++i) found.push_back(frequency.sample(logits));
  EXPECT_EQ(found, (std::vector<int64_t>{0, 1, 0, 2, 1, 0}));
  // Repetition also the prompt, and once; negative logits are multiplied.
  EXPECT_EQ(Sampler({.repetition_penalty = 1.2}, {0, 0, 1}).sample(logits), 2);
  EXPECT_EQ(Sampler({.repetition_penalty = 3}, {1, 1}).sample(at::tensor({-2.5, -1.0})), 0);
}

TEST(Sampler, RefusesByName) {
  const std::pair<SamplingOptions, const char*> cases[] = {
      {{.temperature = -1}, "temperature"},
      {{.temperature = NAN}, "temperature"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.5}, "top_p"},
      {{.top_k = -1}, "top_k"},
      {{.min_p = 2}, "min_p"},
      {{.repetition_penalty = 0}, "repetition_penalty"},
      {{.presence_penalty = 3}, "presence_penalty"},
      {{.frequency_penalty = -3}, "frequency_penalty"},
      {{.logit_bias = {{10, 1}}}, "logit_bias"},
      {{.logit_bias = {{1, 1000}}}, "logit_bias"},
  };
  for (const auto& [options, name] : cases) try {
      check(options, 10);
      ADD_FAILURE() << name << " was let through";
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(name, 0), 0u) << error.what();
    }
  check({.temperature = 1, .top_p = 1, .top_k = 5, .logit_bias = {{9, -100}}}, 10);
}

TEST(LogProbabilities, AreTheModelsOwn) {
  const at::Tensor logits = at::tensor({0.1, 0.4, 0.3, 0.2}).log() + 7;
  const auto found = log_probabilities(logits, 3, 2);
  EXPECT_NEAR(found.chosen, std::log(0.2), 1e-6);
  EXPECT_EQ(found.rank, 3);
  ASSERT_EQ(found.top.size(), 2u);
  EXPECT_EQ(found.top[0].first, 1);
  EXPECT_NEAR(found.top[0].second, std::log(0.4), 1e-6);
  EXPECT_EQ(found.top[1].first, 2);
  EXPECT_EQ(log_probabilities(logits, 0, 100).top.size(), 4u);
}

}  // namespace
}  // namespace farskip::engine
