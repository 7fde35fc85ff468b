// One engine on several ranks.
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "engine/engine_support.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

/// The model whole on every rank: what the ranks do together is the engine's, whatever the layout.
TEST(EngineOnRanks, AllMakeTheStepsOfTheFirst) {
  const auto model = small_model();
  std::mt19937_64 random(11);
  std::vector<Request> requests;
  for (int i = 0; i < 10; ++i) {
    Request request = greedy(random_prompt(random, 1 + 11 * i, model.config.vocabulary), 1 + i);
    request.sampling = {.temperature = 0.5 * (i % 3), .top_p = 0.9, .seed = 5, .top_k = 20};
    request.sampling.logit_bias = {{3, 0.5}, {4, -1.0 / 3}};
    request.stop_tokens = {7};
    if (i % 4 == 0) request.log_probabilities = 2;
    request.prompt_log_probabilities = i % 5 == 0;
    requests.push_back(request);
  }
  const auto run = [&](Engine& engine) {
    std::vector<std::shared_ptr<Recorder>> recorders;
    for (size_t i = 0; i < requests.size(); ++i) {  // the first ones are more than a message holds
      recorders.push_back(std::make_shared<Recorder>());
      if (i == 6) recorders[i]->stop_after = 3;
      const auto id = engine.submit(requests[i], recorders.back());
      if (i == 8) engine.cancel(id);
      if (i >= 7) engine.step();
    }
    while (engine.step()) {
    }
    std::vector<std::vector<int64_t>> tokens;
    for (const auto& recorder : recorders) {
      EXPECT_EQ(recorder->finishes, 1);
      tokens.push_back(recorder->ids());
    }
    return tokens;
  };
  const EngineOptions options = options_for(model, "farskip", 4, 20, 24, 8);
  Engine alone(model, options);
  const auto expected = run(alone);
  for (const int64_t ranks : {2, 3}) {
    std::vector<EngineFigures> figures(ranks);
    comm::Rendezvous::threads(ranks, [&](comm::Rendezvous& rendezvous) {
      EngineOptions own = options;
      own.group = rendezvous.all();
      Engine engine(model, own);
      if (rendezvous.rank() == 0) {
        EXPECT_EQ(run(engine), expected);
        engine.close();
        EXPECT_FALSE(engine.step());
        EXPECT_THROW(engine.submit(requests[0], std::make_shared<Recorder>()), Error);
      } else {
        engine.follow();
      }
      figures[rendezvous.rank()] = engine.figures();
    });
    for (const EngineFigures& one : figures) {
      EXPECT_EQ(one.steps, alone.figures().steps);
      EXPECT_EQ(one.new_tokens, alone.figures().new_tokens);
      EXPECT_EQ(one.preempted, alone.figures().preempted);
      EXPECT_EQ(one.reused_tokens, alone.figures().reused_tokens);
    }
  }
}

TEST(EngineOnRanks, ALostRankEndsEverySequence) {
  const auto model = small_model();
  const auto recorder = std::make_shared<Recorder>();
  EXPECT_THROW(comm::Rendezvous::threads(
                   2,
                   [&](comm::Rendezvous& rendezvous) {
                     EngineOptions options = options_for(model, "regular", 2, 8, 6);
                     options.group = rendezvous.all();
                     Engine engine(model, options);
                     if (rendezvous.rank() == 1) {
                       engine.step();
                       return;
                     }
                     engine.submit(greedy({1, 2, 3}, 50), recorder);
                     while (engine.step()) {
                     }
                   },
                   std::chrono::seconds(2)),
               comm::CommError);
  EXPECT_EQ(recorder->finishes, 1);
  EXPECT_EQ(recorder->outcome.finish, Finish::aborted);
  EXPECT_NE(recorder->outcome.error.find("requests"), std::string::npos) << recorder->outcome.error;
}

}  // namespace
}  // namespace farskip::engine
