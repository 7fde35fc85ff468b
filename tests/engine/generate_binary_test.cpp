// `farskip generate` as generation_config.json and the options have it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "io/json_file.h"
#include "io/support.h"
#include "support/golden.h"

namespace farskip::engine {
namespace {

using Tokens = std::vector<int64_t>;

struct Answer {
  Tokens tokens;
  std::string finish, notes;
};

class GenerateVerb : public testing::Test {
 protected:
  GenerateVerb() { std::filesystem::copy(test::golden_directory("moonlight"), model_); }

  /// What the verb says with this generation_config.json ("" = none) after a prompt of 4 tokens.
  Answer answer(const std::string& generation_config, const std::string& options) {
    std::filesystem::remove(model_ / "generation_config.json");
    if (!generation_config.empty())
      io::put_file(model_ / "generation_config.json", generation_config);
    const std::string command = util::concat("OMP_NUM_THREADS=1 '" FARSKIP_BINARY "' generate ",
                                             model_, " --prompt-tokens 5,9,23,41 --json ", options,
                                             " > ", folder_ / "out", " 2> ", folder_ / "err");
    const int status = std::system(command.c_str());
    const std::string notes = io::read_file(folder_ / "err", 10'000);
    EXPECT_EQ(status, 0) << command << notes;
    const io::Json json = io::read_json_file(folder_ / "out");
    return {json["tokens"].get<Tokens>(), json["finish_reason"], notes};
  }

  const io::TemporaryFolder folder_;
  const std::filesystem::path model_ = folder_ / "model";
};

TEST_F(GenerateVerb, TakesFromTheFileWhatTheOptionsLeaveOut) {
  const std::string some = "--max-new-tokens 16 ";
  const Tokens free = answer("", some + "--ignore-eos").tokens;
  ASSERT_EQ(free.size(), 16u);
  // The first token of them that did not come before it, from the third on, can be an end.
  size_t at = 2;
  while (std::find(free.begin(), free.begin() + at, free[at]) != free.begin() + at) ++at;
  const Tokens until(free.begin(), free.begin() + at), three(free.begin(), free.begin() + 3);
  const std::string ends = util::concat("{\"eos_token_id\": [97, ", free[at], "]}");
  const std::string id = util::concat("--ignore-eos --stop-token-ids 97,", free[at]);
  const std::string sampled = R"({"do_sample": true, "temperature": 1.5, "top_k": 7,
      "top_p": 0.9, "repetition_penalty": 1.3, "max_new_tokens": 16})";
  const Tokens drawn =
      answer("", some + "--temperature 1.5 --top-k 7 --top-p 0.9 --repetition-penalty 1.3").tokens;
  ASSERT_NE(drawn, answer("", some).tokens);
  const struct {
    std::string file, options;
    Tokens expected;
  } cases[] = {
      {ends, some, until},
      {ends, some + "--generation-config none", until},
      {ends, some + "--ignore-eos", free},
      {"", some + id, until},
      {R"({"max_new_tokens": 3})", "--ignore-eos", three},
      {R"({"max_length": 7})", "--ignore-eos", three},
      {R"({"max_length": 5, "max_new_tokens": 3})", "--ignore-eos", three},
      {R"({"max_new_tokens": 3, "max_length": 6})", some + "--ignore-eos", free},
      {R"({"max_new_tokens": 3})", some + "--ignore-eos --generation-config none", free},
      {sampled, "", drawn},
      {sampled, some + "--generation-config auto", drawn},
      {sampled, some + "--generation-config none", answer("", some).tokens},
      {R"({"do_sample": true, "temperature": 1.5})", some + "--temperature 0 --ignore-eos", free},
  };
  for (const auto& c : cases)
    EXPECT_EQ(answer(c.file, c.options).tokens, c.expected) << c.file << " " << c.options;
  EXPECT_EQ(answer(ends, some).finish, "stop");
  EXPECT_THAT(answer(R"({"num_beams": 4})", some).notes,
              testing::HasSubstr("farskip: note: " + (model_ / "generation_config.json").string() +
                                 ": num_beams: 4 is not taken into account"));
}

}  // namespace
}  // namespace farskip::engine
