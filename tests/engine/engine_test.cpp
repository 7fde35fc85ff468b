#include "engine/engine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "engine/engine_support.h"
#include "engine/generate.h"
#include "schedule/forward.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

class EngineOnModels : public testing::TestWithParam<std::string> {};

/// Prompts, some of which begin alike, come while others run, in so little memory that sequences
/// are given up and computed again, and in passes that cut prompts: each gets the tokens that it
/// gets alone. In float64, where no rounding flips a choice.
TEST_P(EngineOnModels, SequencesDoNotDependOnTheirNeighbours) {
  const auto model = model::load_model(golden_directory(GetParam()), at::kDouble);
  std::mt19937_64 random(7);
  const auto common = random_prompt(random, 41, model.config.vocabulary);
  std::vector<std::vector<int64_t>> prompts;
  for (int i = 0; i < 12; ++i) {
    auto prompt =
        random_prompt(random, 1 + static_cast<int64_t>(random() % 60), model.config.vocabulary);
    if (i % 3 == 0) prompt.insert(prompt.begin(), common.begin(), common.end());
    prompts.push_back(prompt);
  }
  const std::string connectivity = "farskip";
  Engine engine(model, options_for(model, connectivity, 5, 48, 24, 8));
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (const auto& prompt : prompts) {
    recorders.push_back(std::make_shared<Recorder>());
    engine.submit(greedy(prompt, 20), recorders.back());
    for (uint64_t n = random() % 4; n-- > 0;) engine.step();
  }
  while (engine.step()) {
  }
  GenerateOptions alone{.connectivity = variant(connectivity, model.config.depth())};
  alone.max_new_tokens = 20;
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(recorders[i]->ids(), generate(model, {prompts[i]}, alone)[0].tokens) << i;
    EXPECT_EQ(recorders[i]->finishes, 1);
    EXPECT_EQ(recorders[i]->outcome.finish, Finish::length);
    EXPECT_EQ(recorders[i]->outcome.new_tokens, 20);
  }
  const EngineFigures figures = engine.figures();
  EXPECT_GT(figures.preempted, 0);
  EXPECT_GT(figures.reused_tokens, 0);
  EXPECT_EQ(figures.new_tokens, 12 * 20);
  EXPECT_EQ(figures.running + figures.queued + figures.pages_used, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, EngineOnModels, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

/// What float and bfloat16 promise: where a pass has no more rows than the kernels for few rows
/// take, each row's bits are its own.
TEST(Engine, DecodingSideBySideGivesTheBitsOfDecodingAlone) {
  const auto model = small_model(at::kBFloat16);
  std::mt19937_64 random(3);
  std::vector<std::vector<int64_t>> prompts;
  for (int i = 0; i < 8; ++i)
    prompts.push_back(random_prompt(random, 1 + i % 2, model.config.vocabulary));
  Engine engine(model, options_for(model, "farskip", 8, 16, 20));
  std::vector<std::shared_ptr<Recorder>> recorders;
  const auto submit = [&](const std::vector<int64_t>& prompt) {
    Request request = greedy(prompt, 70);
    request.log_probabilities = 3;
    recorders.push_back(std::make_shared<Recorder>());
    engine.submit(request, recorders.back());
  };
  for (const auto& prompt : prompts) submit(prompt);
  while (engine.step()) {
  }
  for (const auto& prompt : prompts) {
    submit(prompt);
    while (engine.step()) {
    }
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto &together = recorders[i]->tokens, &alone = recorders[i + prompts.size()]->tokens;
    ASSERT_EQ(together.size(), alone.size());
    for (size_t t = 0; t < alone.size(); ++t) {
      EXPECT_EQ(together[t].id, alone[t].id);
      EXPECT_EQ(together[t].log_probabilities->top, alone[t].log_probabilities->top);
    }
  }
}

TEST(Engine, GivesThePromptsLogProbabilities) {
  const auto model = small_model(at::kDouble);
  std::mt19937_64 random(5);
  const auto prompt = random_prompt(random, 100, model.config.vocabulary);
  const auto connectivity = variant("farskip", model.config.depth());
  const at::Tensor tokens = at::tensor(prompt, at::kLong).unsqueeze(0);
  const at::Tensor expected =
      schedule::logits(model, schedule::forward(model, model::Batch::whole(tokens),
                                                {.connectivity = connectivity}))
          .log_softmax(-1);
  Engine engine(model, options_for(model, "farskip", 4, 16, 21, 8));
  for (const int64_t new_tokens : {0, 1, 3}) {  // later ones find the prompt's pages
    // A neighbour that came first pushes it out of memory on the way.
    const auto neighbour = std::make_shared<Recorder>(), recorder = std::make_shared<Recorder>();
    engine.submit(greedy(random_prompt(random, 60, model.config.vocabulary), 60), neighbour);
    Request request = greedy(prompt, new_tokens);
    request.log_probabilities = 2;
    request.prompt_log_probabilities = true;
    engine.submit(request, recorder);
    while (engine.step()) {
    }
    EXPECT_EQ(recorder->outcome.finish, Finish::length);
    EXPECT_EQ(std::ssize(recorder->tokens), new_tokens);
    ASSERT_EQ(recorder->prompt.size(), prompt.size() - 1);
    for (size_t i = 0; i + 1 < prompt.size(); ++i) {
      const auto& found = recorder->prompt[i];
      const at::Tensor row = expected[static_cast<int64_t>(i)];
      ASSERT_EQ(found.id, prompt[i + 1]);
      ASSERT_NEAR(found.log_probabilities->chosen, row[prompt[i + 1]].item<double>(), 1e-9);
      ASSERT_EQ(found.log_probabilities->top[0].first, row.argmax().item<int64_t>());
      ASSERT_EQ(found.log_probabilities->top.size(), 2u);
    }
  }
  EXPECT_GT(engine.figures().preempted, 0);
}

TEST(Engine, CancelsWaitingAndRunningAndStopsWhenTheListenerSays) {
  const auto model = small_model();
  Engine engine(model, options_for(model, "regular", 2, 8, 6));
  std::vector<std::shared_ptr<Recorder>> recorders;
  std::vector<Engine::Id> ids;
  for (int i = 0; i < 4; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    if (i == 1) recorders[1]->stop_after = 4;
    ids.push_back(engine.submit(greedy({1, 2, 3 + i}, 50), recorders.back()));
  }
  engine.step();
  EXPECT_EQ(engine.figures().running, 2);
  EXPECT_EQ(engine.figures().queued, 2);
  engine.cancel(ids[0]);
  engine.cancel(ids[3]);
  engine.cancel(ids[3]);
  engine.cancel(12345);
  while (engine.step()) {
  }
  EXPECT_EQ(recorders[0]->outcome.finish, Finish::cancelled);
  EXPECT_LT(recorders[0]->tokens.size(), 50u);
  EXPECT_EQ(recorders[1]->outcome.finish, Finish::stop);
  EXPECT_EQ(recorders[1]->tokens.size(), 4u);
  EXPECT_EQ(recorders[2]->tokens.size(), 50u);
  EXPECT_EQ(recorders[3]->outcome.finish, Finish::cancelled);
  EXPECT_TRUE(recorders[3]->tokens.empty());
  for (const auto& recorder : recorders) EXPECT_EQ(recorder->finishes, 1);
  EXPECT_EQ(engine.figures().pages_used, 0);
}

TEST(Engine, RefusesByNameWhatItCannotDo) {
  const auto model = small_model();
  Engine engine(model, options_for(model, "regular", 2, 8, 2));
  ASSERT_EQ(engine.max_sequence(), 128);
  const std::vector<std::pair<Request, std::string>> refused = {
      {greedy({}, 1), "prompt: found no tokens"},
      {greedy({1, -1}, 1), "prompt: found id -1"},
      {greedy({model.config.vocabulary}, 1), "prompt: found id"},
      {greedy({1}, -1), "new tokens: found -1"},
      {greedy({1}, 128), "sequence: found 1 tokens of a prompt and 128 new ones"},
      {greedy({1}, std::numeric_limits<int64_t>::max()), "sequence"},
      {greedy(std::vector<int64_t>(129, 1), 0), "sequence"},
      {{.prompt = {1}, .sampling = {.temperature = -1}}, "temperature"},
      {{.prompt = {1}, .sampling = {.logit_bias = {{-5, 1.0}}}}, "bias"}};
  for (const auto& [request, expected] : refused) {
    try {
      engine.submit(request, std::make_shared<Recorder>());
      ADD_FAILURE() << expected;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(engine.step());
  const auto make = [&](auto change) {
    EngineOptions options = options_for(model, "regular", 2, 8, 2);
    change(options);
    return std::make_unique<Engine>(model, options);
  };
  EXPECT_THROW(make([](EngineOptions& o) { o.cache_bytes = 100; }), InputError);
  EXPECT_THROW(make([](EngineOptions& o) { o.max_sequences = 0; }), InputError);
  EXPECT_THROW(make([](EngineOptions& o) { o.max_batch_tokens = 1; }), InputError);
}

TEST(Engine, LogitsThatAreNotFiniteEndTheirSequence) {
  auto model = small_model();
  Engine engine(model, options_for(model, "regular", 2, 8, 6));
  const auto recorder = std::make_shared<Recorder>();
  engine.submit(greedy({1, 2, 3}, 50), recorder);
  EXPECT_TRUE(engine.step());
  model.weights.final_norm.value = at::full_like(model.weights.final_norm.value, std::nan(""));
  EXPECT_TRUE(engine.step());
  EXPECT_EQ(recorder->finishes, 1);
  EXPECT_EQ(recorder->tokens.size(), 1u);
  EXPECT_EQ(recorder->outcome.finish, Finish::failed);
  EXPECT_NE(recorder->outcome.error.find("finite"), std::string::npos) << recorder->outcome.error;
  EXPECT_EQ(engine.figures().pages_used, 0);
}

TEST(Engine, WhatFailsAStepEndsAllSequences) {
  class Throwing : public Recorder {
    bool on_token(const Token&) override { throw std::logic_error("a bug\nand its stack"); }
  };
  const auto model = small_model();
  Engine engine(model, options_for(model, "regular", 2, 8, 6));
  std::vector<std::shared_ptr<Recorder>> recorders = {
      std::make_shared<Recorder>(), std::make_shared<Throwing>(), std::make_shared<Recorder>()};
  for (const auto& recorder : recorders) engine.submit(greedy({1, 2, 3}, 50), recorder);
  EXPECT_THROW(engine.step(), std::logic_error);
  for (const auto& recorder : recorders) {
    EXPECT_EQ(recorder->finishes, 1);
    EXPECT_EQ(recorder->outcome.finish, Finish::aborted);
    EXPECT_EQ(recorder->outcome.error, "a bug");
  }
  EXPECT_FALSE(engine.step());
  EXPECT_THROW(engine.submit(greedy({1}, 1), recorders[0]), Error);
}

TEST(Engine, TakesRequestsFromManyThreads) {
  const auto model = small_model();
  Engine engine(model, options_for(model, "farskip", 4, 32, 8));
  std::atomic<int> ended = 0;
  class Counter : public Recorder {
   public:
    explicit Counter(std::atomic<int>& ended) : ended_(ended) {}
    void on_finish(const Outcome& outcome) override {
      Recorder::on_finish(outcome);
      ++ended_;
    }

   private:
    std::atomic<int>& ended_;
  };
  std::thread stepping([&] {
    while (engine.wait()) engine.step();
  });
  std::vector<std::thread> clients;
  std::vector<std::shared_ptr<Counter>> recorders(24);
  for (int client = 0; client < 4; ++client)
    clients.emplace_back([&, client] {
      for (int i = 0; i < 6; ++i) {
        auto& recorder = recorders[client * 6 + i] = std::make_shared<Counter>(ended);
        const auto id = engine.submit(greedy({1, 2, client}, 5 + i), recorder);
        if (i == 5) engine.cancel(id);
      }
    });
  for (std::thread& client : clients) client.join();
  while (ended < 24) std::this_thread::yield();
  engine.wake();
  stepping.join();
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(recorders[i]->finishes, 1);
    if (i % 6 != 5) {
      EXPECT_EQ(std::ssize(recorders[i]->tokens), 5 + i % 6);
    }
  }
}

}  // namespace
}  // namespace farskip::engine
