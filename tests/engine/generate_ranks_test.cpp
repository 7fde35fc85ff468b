// Generation on several ranks: the tokens of one rank, on every rank or on the first.
#include <gtest/gtest.h>

#include "comm/grid.h"
#include "comm/substitutes.h"
#include "engine/generate.h"
#include "support/shared_model.h"

namespace farskip::engine {
namespace {

using namespace farskip::test;

class GenerateOnRanks : public testing::TestWithParam<std::string> {};

TEST_P(GenerateOnRanks, GivesEveryRankTheTokensOfOne) {
  const SharedModel shared(GetParam());
  // Shorter and longer prompts; one of a single token.
  const std::vector<std::vector<int64_t>> prompts = {{5, 9, 2, 41, 7, 33}, {8}, {70, 3, 12}};
  const auto run = [&](comm::Rendezvous& rendezvous, const std::string& connectivity,
                       double temperature, model::Execution execution) {
    const int64_t size = rendezvous.size(), rank = rendezvous.rank();
    GenerateOptions options;
    options.max_new_tokens = 10;
    options.sampling.temperature = temperature;
    options.sampling.seed = 3;
    options.ranks.execution = execution;
    model::Share share;
    if (size > 1) {
      share = replicated_share(rank, size, size);
      options.ranks.reducer = std::make_shared<comm::Reducer>(
          comm::delayed(rendezvous.all(), rank, std::chrono::milliseconds(1)));
    }
    const auto model = model::load_model(shared.directory(), at::kFloat, at::kCPU,
                                         model::Residence::copied, share);
    options.connectivity = variant(connectivity, model.config.depth());
    std::vector<std::vector<int64_t>> tokens;
    for (const Generated& one : generate(model, prompts, options)) tokens.push_back(one.tokens);
    return tokens;
  };
  for (const std::string connectivity : {"regular", "farskip"})
    for (const double temperature : {0.0, 0.7}) {
      std::vector<std::vector<int64_t>> expected;
      for (const int64_t size : {1, 2, 4})
        comm::Rendezvous::threads(size, [&](comm::Rendezvous& rendezvous) {
          using model::Execution;
          for (const auto execution : {Execution::overlapped, Execution::blocking}) {
            const auto found = run(rendezvous, connectivity, temperature, execution);
            if (size == 1) expected = found;
            EXPECT_EQ(found, expected) << connectivity << ", " << size << " ranks";
          }
        });
    }
}

TEST_P(GenerateOnRanks, SpreadsPromptsOverRanksThatShareTheExperts) {
  const SharedModel shared(GetParam());
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < 7; ++i) prompts.emplace_back(1 + 9 * i, 3 + i);
  std::vector<std::vector<int64_t>> expected;
  for (const int64_t size : {1, 2, 4})
    comm::Rendezvous::threads(size, [&](comm::Rendezvous& rendezvous) {
      GenerateOptions options;
      options.max_new_tokens = 10;
      model::Share share;
      if (size > 1) {
        share = model::Share::of_experts(rendezvous.rank(), size);
        options.ranks.courier = comm::make_grid(rendezvous, size).courier;
        options.group = rendezvous.all();
      }
      const auto model = model::load_model(shared.directory(), at::kDouble, at::kCPU,
                                           model::Residence::mapped, share);
      options.connectivity = variant("farskip", model.config.depth());
      std::vector<std::vector<int64_t>> tokens;
      for (const Generated& one : generate(model, prompts, options)) tokens.push_back(one.tokens);
      if (size == 1) expected = tokens;
      if (rendezvous.rank() == 0) {
        EXPECT_EQ(tokens, expected);
      } else {
        EXPECT_TRUE(tokens.empty());
      }
    });
}

INSTANTIATE_TEST_SUITE_P(Models, GenerateOnRanks, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::engine
