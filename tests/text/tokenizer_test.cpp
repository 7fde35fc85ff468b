#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "io/json_file.h"
#include "text/support.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json, io::parse_json;
using ::testing::ElementsAre;
using Ids = std::vector<int64_t>;

class EveryTokenizer : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Files, EveryTokenizer,
                         ::testing::Values("demo", "deepseek_v3", "qwen3", "gpt2"));

std::vector<Json> golden() {
  std::ifstream file(FARSKIP_TEST_DATA "/tokenizers/golden.jsonl");
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(parse_json(line, "golden"));
  return rows;
}

TEST_P(EveryTokenizer, GivesTheIdsOfHuggingFace) {
  const auto rows = golden();
  ASSERT_EQ(rows.size(), 34u);
  for (const Json& row : rows) {
    if (!row.contains(GetParam())) continue;  // the demo tokenizer has its own test
    const auto text = row["text"].get<std::string>();
    EXPECT_EQ(tokenizer_of(GetParam()).encode(text), row[GetParam()].get<Ids>()) << text;
  }
}

TEST_P(EveryTokenizer, DecodesWhatItEncoded) {
  const Tokenizer& tokenizer = tokenizer_of(GetParam());
  std::string all;  // one long text as well
  for (const Json& row : golden()) {
    const auto text = row["text"].get<std::string>();
    if (text.find("e\u0301") != std::string::npos) continue;  // Qwen composes it
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), false), text);
    all += text;
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(all), false), all);
}

TEST_P(EveryTokenizer, StreamsWholeCharacters) {
  const Tokenizer& tokenizer = tokenizer_of(GetParam());
  for (const Json& row : golden()) {
    const Ids ids = tokenizer.encode(row["text"].get<std::string>());
    TextStream stream(tokenizer);
    std::string text;
    for (const int64_t id : ids) {
      const std::string part = stream.push(id);
      EXPECT_EQ(io::first_invalid_utf8(part), part.size());
      EXPECT_EQ(part.find("\uFFFD"), std::string::npos);
      text += part;
    }
    EXPECT_EQ(text + stream.finish(), tokenizer.decode(ids));
  }
}

TEST(Tokenizer, EncodesDemoText) {
  const Tokenizer& tokenizer = tokenizer_of("demo");
  EXPECT_EQ(tokenizer.vocabulary_size(), 4096);
  EXPECT_THAT(tokenizer.encode("Hello <|user|>world"),
              ElementsAre(42, 552, 81, 223, 1, 89, 289, 321));
  EXPECT_EQ(tokenizer.id_of("<|endoftext|>"), 0);
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
  EXPECT_THAT(tokenizer.encode(""), ElementsAre());
}

TEST(Tokenizer, LeavesSpecialTokensOutOfTextOnDemand) {
  const Tokenizer& tokenizer = tokenizer_of("demo");
  const Ids ids = tokenizer.encode("Hi<|endoftext|>");
  EXPECT_TRUE(tokenizer.is_special(ids.back()));
  EXPECT_EQ(tokenizer.decode(ids), "Hi");
  EXPECT_EQ(tokenizer.decode(ids, false), "Hi<|endoftext|>");
}

TEST(Tokenizer, ReplacesWhatIsNoCharacter) {
  const Tokenizer& tokenizer = tokenizer_of("demo");
  const Ids emoji = tokenizer.encode("\U0001F600");
  ASSERT_GT(emoji.size(), 2u);  // several tokens
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.push(emoji[0]), "");
  EXPECT_EQ(stream.push(*tokenizer.id_of("a")), "\uFFFDa");
  EXPECT_EQ(stream.push(emoji[0]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Tokenizer, RefusesBadTextAndIds) {
  const Tokenizer& tokenizer = tokenizer_of("demo");
  for (const char* text : {"\xff", "a\xC3", "\xED\xA0\x80", "\xC0\xAF", "\xF4\x90\x80\x80"})
    EXPECT_THROW(tokenizer.encode(text), InputError) << text;
  for (const int64_t id : {int64_t{-1}, int64_t{4096}, int64_t{1} << 40})
    EXPECT_THROW(tokenizer.decode(Ids{id}), InputError) << id;
}

TEST(Tokenizer, MayBeUsedByManyThreads) {
  const Tokenizer& tokenizer = tokenizer_of("qwen3");
  const std::string text = "Several threads, one tokenizer: naïve 12345 漢字\n\n  end";
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) ids = tokenizer.encode(text);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, TakesLongWordsInReasonableTime) {
  const Tokenizer& tokenizer = tokenizer_of("qwen3");
  for (const char* part : {"a", " ", "ab", "\n", "\u0301", "<|"}) {
    std::string text;
    while (text.size() < 300'000) text += part;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

}  // namespace
}  // namespace farskip::text
