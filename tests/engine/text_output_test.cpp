// Text as it streams: whole characters, and nothing of a stop string.
#include "engine/text_output.h"

#include <gtest/gtest.h>

#include <random>

#include "util/error.h"

namespace farskip::engine {
namespace {

io::Tokenizer tokenizer() {
  return io::Tokenizer::load(FARSKIP_SOURCE_DIR "/data/demo/tokenizer.json");
}

TEST(TextOutput, HoldsBackWhatMayBecomeAStopString) {
  const auto tokens = tokenizer();
  const std::string text = "One two threes, th three\n\nfour";
  struct Case {
    std::vector<std::string> stops;
    std::string expected;
  };
  const Case cases[] = {{{}, text},
                        {{"three\n"}, "One two threes, th "},
                        {{"absent", "two"}, "One "},
                        {{"four", "\n\n"}, "One two threes, th three"},
                        {{"three\n\nfourth"}, text},
                        {{"One"}, ""}};
  for (const Case& one : cases) {
    TextOutput output(tokens, one.stops);
    std::string given;
    for (const int64_t id : tokens.encode(text)) {
      given += output.push(id);
      EXPECT_EQ(one.expected.rfind(given, 0), 0u) << '"' << given << '"';
      if (output.stopped()) break;
    }
    EXPECT_EQ(output.stopped(), one.expected != text);
    given += output.finish();
    EXPECT_EQ(given, one.expected);
    EXPECT_EQ(output.text(), one.expected);
  }
  EXPECT_THROW(TextOutput(tokens, {""}), InputError);
}

TEST(TextOutput, GivesNothingOfATokenThatOnlyTheModelHas) {
  const auto tokens = tokenizer();
  TextOutput output(tokens, {});
  std::string given;
  for (const int64_t id : tokens.encode("One two")) {
    given += output.push(tokens.vocabulary_size());
    given += output.push(id);
  }
  EXPECT_EQ(given + output.finish(), "One two");
}

TEST(TextOutput, FindsAfterEveryTokenWhatAPlainSearchFinds) {
  const auto tokens = tokenizer();
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto letters = [&](int most) {
      std::string text;
      for (int n = 1 + static_cast<int>(random() % most); n > 0; --n) text += "ab "[random() % 3];
      return text;
    };
    const std::string text = letters(40);
    const std::vector<std::string> stops = {letters(5), letters(4)};
    TextOutput output(tokens, stops);
    std::string given, expected;
    for (const int64_t id : tokens.encode(text)) {
      given += output.push(id);
      expected += tokens.bytes_of(id);
      const size_t at = std::min(expected.find(stops[0]), expected.find(stops[1]));
      EXPECT_EQ(output.stopped(), at != std::string::npos);
      if (!output.stopped()) continue;
      expected.resize(at);
      break;
    }
    given += output.finish();
    EXPECT_EQ(given, expected);
  }
}

}  // namespace
}  // namespace farskip::engine
