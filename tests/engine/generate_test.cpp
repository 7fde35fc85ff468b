#include "engine/generate.h"

#include <gtest/gtest.h>

#include "support/golden.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

using namespace farskip::test;

std::vector<int64_t> list(const at::Tensor& tokens) {
  return {tokens.data_ptr<int64_t>(), tokens.data_ptr<int64_t>() + tokens.numel()};
}

class Generate : public testing::TestWithParam<std::string> {};

TEST_P(Generate, ContinuesAsThePlainImplementationDoes) {
  const auto golden = golden_values(GetParam());
  const auto model = model::load_model(golden_directory(GetParam()), at::kFloat);
  const auto prompt = list(golden.at("tokens")[0]);
  for (const std::string name : {"regular", "farskip"}) {
    GenerateOptions options;
    options.connectivity = variant(name, model.config.depth());
    options.max_new_tokens = 16;
    const auto expected = list(golden.at("generated." + name));
    // Beside shorter and longer prompts, nothing changes.
    auto shorter = prompt, longer = prompt;
    shorter.resize(3);
    longer.insert(longer.end(), prompt.begin(), prompt.end());
    const auto found = generate(model, {shorter, prompt, longer}, options);
    EXPECT_EQ(found[1].tokens, expected) << name;
    EXPECT_EQ(generate(model, {shorter}, options)[0].tokens, found[0].tokens) << name;
    EXPECT_GT(found[1].ttft_ms, 0);
    EXPECT_GT(found[1].tbt_ms, 0);

    options.stop_tokens = {expected[5]};
    const auto stopped = generate(model, {prompt}, options)[0];
    EXPECT_TRUE(stopped.stopped);
    EXPECT_LE(stopped.tokens.size(), 5u);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Generate, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::engine
