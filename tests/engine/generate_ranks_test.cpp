// Generation on several ranks: every rank gets the tokens of one rank.
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
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

INSTANTIATE_TEST_SUITE_P(Models, GenerateOnRanks, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::engine
