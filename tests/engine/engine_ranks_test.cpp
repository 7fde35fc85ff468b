// One engine on several ranks, in every layout: what its listeners hear is what they hear of one
// rank.
#include <gtest/gtest.h>

#include "comm/grid.h"
#include "engine/engine_support.h"
#include "support/shared_model.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

enum class Layout {
  replicated,  ///< all ranks work on every sequence
  experts,     ///< every rank has sequences of its own, and a part of the experts
  gathered,    ///< the same, and tokens go to all ranks
  whole        ///< every rank has sequences of its own, and all of the model
};

struct Setting {
  Layout layout;
  int64_t ranks;
};

std::string name_of(const testing::TestParamInfo<Setting>& info) {
  const char* names[] = {"replicated", "experts", "gathered", "whole"};
  return util::concat(names[static_cast<int>(info.param.layout)], info.param.ranks);
}

constexpr int64_t kPages = 17, kPageTokens = 8;

/// One rank's model, and an engine of it that makes steps with those of the others.
class Rank {
 public:
  Rank(comm::Rendezvous& rendezvous, Layout layout, const SharedModel& shared) {
    const int64_t size = rendezvous.size(), rank = rendezvous.rank();
    model::ExpertRanks ranks;
    model::Share share;
    if (size > 1 && layout == Layout::replicated) {
      share = replicated_share(rank, size, size);
      ranks.reducer = std::make_shared<comm::Reducer>(rendezvous.all());
    } else if (size > 1 && layout != Layout::replicated && layout != Layout::whole) {
      share = model::Share::of_experts(rank, size);
      ranks.courier = comm::make_grid(rendezvous, size).courier;
      ranks.waves = 2;
      if (layout == Layout::gathered) ranks.transport = model::Transport::all_gather;
    }
    model_ = model::load_model(shared.directory(), at::kDouble, at::kCPU, model::Residence::mapped,
                               share);
    options = options_for(model_, "farskip", 4, 20, kPages, kPageTokens);
    options.ranks = ranks;
    options.group = rendezvous.all();
    engine = std::make_unique<Engine>(model_, options);
  }

  EngineOptions options;
  std::unique_ptr<Engine> engine;

 private:
  model::Model model_;
};

struct Asked {
  Request request;
  int64_t stop_after = -1;  ///< tokens, by the listener
  bool cancelled = false;
};

/// Prompts of one token and of many, more of them than a message holds, some of which begin alike.
std::vector<Asked> requests() {
  constexpr int64_t kVocabulary = 90;
  std::mt19937_64 random(11);
  const auto common = random_prompt(random, 30, kVocabulary);
  std::vector<Asked> found;
  for (int i = 0; i < 24; ++i) {
    Asked one{greedy(random_prompt(random, 1 + (7 * i) % 60, kVocabulary), 1 + (11 * i) % 40)};
    Request& request = one.request;
    if (i % 3 == 0) request.prompt.insert(request.prompt.begin(), common.begin(), common.end());
    request.sampling = {.temperature = 0.5 * (i % 3), .top_p = 0.9, .seed = 5, .top_k = 20};
    request.sampling.logit_bias = {{3, 0.5}, {4, -1.0 / 3}};
    request.stop_tokens = {7};
    if (i % 4 == 0) request.log_probabilities = 2;
    request.prompt_log_probabilities = i % 5 == 0;
    if (i % 7 == 6) one.stop_after = 3;
    one.cancelled = i % 8 == 7;
    found.push_back(one);
  }
  return found;
}

using Recorders = std::vector<std::shared_ptr<Recorder>>;

/// Submits while others run, and steps until all have ended.
Recorders run(Engine& engine, const std::vector<Asked>& requests) {
  std::mt19937_64 random(13);
  Recorders recorders;
  for (const Asked& one : requests) {
    recorders.push_back(std::make_shared<Recorder>());
    recorders.back()->stop_after = one.stop_after;
    const auto id = engine.submit(one.request, recorders.back());
    for (uint64_t n = random() % 2; n-- > 0;) engine.step();
    if (!one.cancelled) continue;
    const int before = recorders.back()->finishes;
    const size_t heard = recorders.back()->tokens.size();
    engine.cancel(id);
    engine.step();
    EXPECT_EQ(recorders.back()->finishes, 1);
    EXPECT_EQ(recorders.back()->tokens.size(), heard);
    if (before == 0) {
      EXPECT_EQ(recorders.back()->outcome.finish, Finish::cancelled);
    }
  }
  while (engine.step()) {
  }
  return recorders;
}

void expect_alike(const std::vector<Token>& found, const std::vector<Token>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].id, expected[i].id) << i;
    ASSERT_EQ(found[i].log_probabilities.has_value(), expected[i].log_probabilities.has_value());
    if (!found[i].log_probabilities) continue;
    const auto &a = *found[i].log_probabilities, &b = *expected[i].log_probabilities;
    EXPECT_NEAR(a.chosen, b.chosen, 1e-9);
    EXPECT_EQ(a.rank, b.rank);
    ASSERT_EQ(a.top.size(), b.top.size());
    for (size_t k = 0; k < a.top.size(); ++k) EXPECT_EQ(a.top[k].first, b.top[k].first);
  }
}

class EngineOnRanks : public testing::TestWithParam<Setting> {};

TEST_P(EngineOnRanks, ListenersHearWhatTheyHearOfOneRank) {
  const SharedModel shared("deepseek_v3");
  const auto [layout, size] = GetParam();
  std::vector<Asked> asked = requests();
  const auto play = [&](int64_t ranks, const std::vector<Asked>& what) {
    Recorders recorders;
    EngineFigures figures;
    comm::Rendezvous::threads(ranks, [&](comm::Rendezvous& rendezvous) {
      Rank rank(rendezvous, layout, shared);
      Engine& engine = *rank.engine;
      if (rendezvous.rank() > 0) return engine.follow();
      recorders = run(engine, what);
      figures = engine.figures();
      engine.close();
      EXPECT_FALSE(engine.step());
      EXPECT_THROW(engine.submit(what[0].request, std::make_shared<Recorder>()), Error);
    });
    return std::pair{recorders, figures};
  };
  const auto [recorders, figures] = play(size, asked);
  for (Asked& one : asked) one.cancelled = false;
  const Recorders expected = play(1, asked).first;
  int64_t tokens = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    SCOPED_TRACE(i);
    const Recorder &found = *recorders[i], &alone = *expected[i];
    EXPECT_EQ(found.finishes, 1);
    tokens += std::ssize(found.tokens);
    EXPECT_EQ(found.outcome.new_tokens, std::ssize(found.tokens));
    EXPECT_EQ(found.outcome.prompt_tokens, std::ssize(asked[i].request.prompt));
    if (found.outcome.finish == Finish::cancelled) {
      auto begun = alone.tokens;
      begun.resize(std::min(begun.size(), found.tokens.size()));
      expect_alike(found.tokens, begun);
      continue;
    }
    expect_alike(found.tokens, alone.tokens);
    expect_alike(found.prompt, alone.prompt);
    EXPECT_EQ(found.outcome.finish, alone.outcome.finish);
  }
  EXPECT_EQ(figures.new_tokens, tokens);
  EXPECT_EQ(figures.running + figures.queued + figures.pages_used, 0);
  EXPECT_EQ(figures.pages, kPages * (layout == Layout::replicated ? 1 : size));
  EXPECT_GT(figures.reused_tokens, 0);
  if (size < 4 || layout == Layout::replicated) {
    EXPECT_GT(figures.preempted, 0);
  }
}

/// As many sequences as ranks, and fewer: each has a token after every step.
TEST_P(EngineOnRanks, TokensAreHeardInTheirStep) {
  const SharedModel shared("qwen3_moe");
  const auto [layout, size] = GetParam();
  comm::Rendezvous::threads(size, [&, layout = layout](comm::Rendezvous& rendezvous) {
    Rank rank(rendezvous, layout, shared);
    Engine& engine = *rank.engine;
    if (rendezvous.rank() > 0) return engine.follow();
    for (const int64_t sequences : {int64_t{1}, rendezvous.size()}) {
      Recorders recorders;
      for (int64_t i = 0; i < sequences; ++i) {
        recorders.push_back(std::make_shared<Recorder>());
        engine.submit(greedy({1, 2, 3 + i}, 4), recorders.back());
      }
      for (size_t step = 1; step <= 4; ++step) {
        EXPECT_TRUE(engine.step());
        for (const auto& recorder : recorders) EXPECT_EQ(recorder->tokens.size(), step);
      }
      EXPECT_FALSE(engine.step());
      for (const auto& recorder : recorders) EXPECT_EQ(recorder->finishes, 1);
    }
    EXPECT_EQ(engine.figures().steps, 8);
    engine.close();
    engine.step();
  });
}

TEST_P(EngineOnRanks, ALostRankEndsEverySequence) {
  const SharedModel shared("deepseek_v3");
  const auto [layout, size] = GetParam();
  const auto recorder = std::make_shared<Recorder>();
  EXPECT_THROW(comm::Rendezvous::threads(
                   size,
                   [&, layout = layout](comm::Rendezvous& rendezvous) {
                     Rank rank(rendezvous, layout, shared);
                     if (rendezvous.rank() == 1) {
                       rank.engine->step();
                       return;
                     }
                     if (rendezvous.rank() > 1) return rank.engine->follow();
                     rank.engine->submit(greedy({1, 2, 3}, 50), recorder);
                     while (rank.engine->step()) {
                     }
                   },
                   std::chrono::seconds(2)),
               comm::CommError);
  EXPECT_EQ(recorder->finishes, 1);
  EXPECT_EQ(recorder->outcome.finish, Finish::aborted);
  EXPECT_NE(recorder->outcome.error.find("rank 0 of"), std::string::npos)
      << recorder->outcome.error;
}

INSTANTIATE_TEST_SUITE_P(Layouts, EngineOnRanks,
                         testing::Values(Setting{Layout::replicated, 2},
                                         Setting{Layout::replicated, 4},
                                         Setting{Layout::experts, 2}, Setting{Layout::experts, 4},
                                         Setting{Layout::gathered, 2}, Setting{Layout::whole, 3}),
                         name_of);

TEST(EngineOnRanks, ExpertsOfOtherRanksNeedAGroup) {
  comm::Rendezvous::threads(2, [](comm::Rendezvous& rendezvous) {
    const auto model = small_model();
    EngineOptions options = options_for(model, "farskip", 4, 20, kPages);
    options.ranks.courier = comm::make_grid(rendezvous, 2).courier;
    EXPECT_THROW(Engine(model, options), Error);
  });
}

}  // namespace
}  // namespace farskip::engine
