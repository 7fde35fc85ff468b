// Text as it streams: whole characters, and nothing of a stop string.
#include "text/text_output.h"

#include <gtest/gtest.h>

#include <random>

#include "text/hub.h"
#include "text/support.h"
#include "util/error.h"

namespace farskip::text {
namespace {

const Tokenizer& tokenizer() {
  return tokenizer_of("demo");
}

TEST(TextOutput, HoldsBackWhatMayBecomeAStopString) {
  const Tokenizer& tokens = tokenizer();
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
    TextOutput output(tokens, {.stops = one.stops});
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
  EXPECT_THROW(TextOutput(tokens, {.stops = {""}}), InputError);
}

TEST(TextOutput, EndsAtASpecialTokenThatIsAStopString) {
  const Tokenizer& tokens = tokenizer();
  const std::vector<int64_t> ids = tokens.encode("One two<|assistant|> three<|user|> four");
  struct Case {
    TextOutputOptions options;
    std::string expected;
    bool stops = true;
  };
  const Case cases[] = {
      {{.stops = {"<|user|>"}}, "One two three"},
      {{.stops = {"absent", "<|assistant|>"}}, "One two"},
      {{.stops = {"<|user|>"}, .skip_special_tokens = false}, "One two<|assistant|> three"},
      {{.stops = {"<|user|>"}, .include_stop = true}, "One two three<|user|>"},
      {{.stops = {"three<"}}, "One two three four", false},  // no part of the text that is shown
      {{.stops = {"three<"}, .skip_special_tokens = false}, "One two<|assistant|> "},
      {{.stops = {"three four"}}, "One two "},
      {{.stops = {"threefold", "<|user|>"}}, "One two three"},  // what was held back comes too
      {{.stops = {"two th"}, .include_stop = true}, "One two th"},
      {{.stops = {"<|endoftext|>"}}, "One two three four", false},
  };
  for (const Case& one : cases) {
    TextOutput output(tokens, one.options);
    std::string given;
    for (size_t i = 0; i < ids.size() && !output.stopped(); ++i) given += output.push(ids[i]);
    EXPECT_EQ(output.stopped(), one.stops) << one.expected;
    given += output.finish();
    EXPECT_EQ(given, one.expected);
    EXPECT_EQ(output.text(), one.expected);
  }
}

/// SentencePiece's form: the first space of a text is not told, bytes may stand alone.
class Pieces : public HubTokenizer {
 public:
  std::vector<int64_t> encode(std::string_view, bool) const override { return {}; }
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens, bool) const override {
    io::LossyUtf8 text;
    std::string whole;
    for (const int64_t id : ids)
      if (id > 0 || !skip_special_tokens) whole += text.push(token_bytes(tokens()[id], spelling()));
    whole += text.finish();
    return whole.starts_with(' ') ? whole.substr(1) : whole;
  }
  std::optional<int64_t> id_of(std::string_view) const override { return std::nullopt; }
  std::vector<std::string> tokens() const override {
    return {"<s>", "\u2581a", "b", "\u2581", "<0xC3>", "<0xA9>", "<0xFF>", "\u2581\u2581"};
  }
  Spelling spelling() const override { return Spelling::pieces; }
  std::vector<int64_t> special_ids() const override { return {0}; }
  std::map<std::string, std::string> special_tokens() const override { return {}; }
};

TEST(TextStream, OfPiecesAddsUpToTheWholeText) {
  const Tokenizer tokens(std::make_shared<const Pieces>());
  std::mt19937 random(2);
  for (int i = 0; i < 300; ++i) {
    std::vector<int64_t> ids;
    for (int n = static_cast<int>(random() % 12); n > 0; --n)
      ids.push_back(static_cast<int64_t>(random() % 8));
    TextStream stream(tokens);
    std::string text;
    for (const int64_t id : ids) {
      const std::string part = stream.push(id);
      EXPECT_EQ(io::first_invalid_utf8(part), part.size());
      text += part;
    }
    EXPECT_EQ(text + stream.finish(), tokens.decode(ids)) << ::testing::PrintToString(ids);
  }
  EXPECT_EQ(tokens.bytes_of(4), "\xC3");
  EXPECT_EQ(tokens.bytes_of(1), " a");
}

TEST(TextOutput, GivesNothingOfATokenThatOnlyTheModelHas) {
  const Tokenizer& tokens = tokenizer();
  TextOutput output(tokens, {});
  std::string given;
  for (const int64_t id : tokens.encode("One two")) {
    given += output.push(tokens.vocabulary_size());
    given += output.push(id);
  }
  EXPECT_EQ(given + output.finish(), "One two");
}

TEST(TextOutput, FindsAfterEveryTokenWhatAPlainSearchFinds) {
  const Tokenizer& tokens = tokenizer();
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto letters = [&](int most) {
      std::string text;
      for (int n = 1 + static_cast<int>(random() % most); n > 0; --n) text += "ab "[random() % 3];
      return text;
    };
    const std::string text = letters(40);
    const std::vector<std::string> stops = {letters(5), letters(4)};
    TextOutput output(tokens, {.stops = stops});
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
}  // namespace farskip::text
