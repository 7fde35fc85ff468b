// Settings of tokenizer.json, one at a time, on a vocabulary small enough to see through; and files
// that are damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/byte_level.h"
#include "io/json_file.h"
#include "io/tokenizer.h"
#include "util/error.h"

namespace farskip::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int64_t>;

/// All bytes (id = byte), and 256 "ab", 257 "abc", 258 " ab", 259 "bc".
Json small_file() {
  Json vocabulary = Json::object();
  const auto& alphabet = byte_level_alphabet();
  for (int byte = 0; byte < 256; ++byte) vocabulary[alphabet[byte]] = byte;
  for (const char* token : {"ab", "abc", "Ġab", "bc"}) vocabulary[token] = vocabulary.size();
  Json merges = Json::array({"a b", "ab c", Json::array({"Ġ", "ab"}), "b c"});
  return {
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

Tokenizer build(const Json& file) {
  return Tokenizer::parse(file.dump(), "tokenizer.json");
}

Json added(int id, const char* content, const Json& changes = Json::object()) {
  Json token = {
      {"id", id},        {"content", content}, {"special", false},   {"single_word", false},
      {"lstrip", false}, {"rstrip", false},    {"normalized", false}};
  token.update(changes);
  return token;
}

/// Ids of a text when one token XY, id 260, is added with these flags.
Ids with_token(const Json& flags, const char* text) {
  Json file = small_file();
  file["added_tokens"].push_back(added(260, "XY", flags));
  return build(file).encode(text);
}

TEST(TokenizerSettings, MergesByRank) {
  const Tokenizer tokenizer = build(small_file());
  EXPECT_THAT(tokenizer.encode("abc ab bc"), ElementsAre(257, 258, ' ', 259));
  EXPECT_THAT(tokenizer.encode("aab"), ElementsAre('a', 256));
}

TEST(TokenizerSettings, FindsAddedTokens) {
  const Json none = Json::object();
  EXPECT_THAT(with_token(none, "aXYb"), ElementsAre('a', 260, 'b'));
  EXPECT_THAT(with_token(none, "a XY b"), ElementsAre('a', ' ', 260, ' ', 'b'));
  EXPECT_THAT(with_token({{"lstrip", true}}, "a \n\u00a0XY b"), ElementsAre('a', 260, ' ', 'b'));
  EXPECT_THAT(with_token({{"rstrip", true}}, "a XY \u3000 b"), ElementsAre('a', ' ', 260, 'b'));
  EXPECT_THAT(with_token({{"single_word", true}}, "aXY XY-XY"),
              ElementsAre('a', 'X', 'Y', ' ', 260, '-', 260));
  EXPECT_THAT(with_token({{"single_word", true}}, "XY\u00e9"), ElementsAre('X', 'Y', 0xc3, 0xa9));
  EXPECT_THAT(with_token({{"normalized", true}}, "XYXY"), ElementsAre(260, 260));
}

TEST(TokenizerSettings, PrefersTheLongestAddedToken) {
  Json file = small_file();
  file["added_tokens"] = {added(260, "<x"), added(261, "<x>"), added(262, "x>y")};
  EXPECT_THAT(build(file).encode("<x>y<x"), ElementsAre(261, 'y', 260));
}

TEST(TokenizerSettings, NormalisesBetweenTheTwoSearches) {
  Json file = small_file();
  file["normalizer"] = {{"type", "NFC"}};
  file["added_tokens"] = {added(260, "e\u0301", {{"normalized", true}}), added(261, "o\u0301")};
  EXPECT_THAT(build(file).encode("\u00e9 e\u0301 \u00f3 o\u0301"),
              ElementsAre(260, ' ', 260, ' ', 0xc3, 0xb3, ' ', 261));
}

TEST(TokenizerSettings, CutsTextInSteps) {
  Json file = small_file();
  const auto encode = [&](const Json& steps, const char* text) {
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    file["pre_tokenizer"]["pretokenizers"].push_back(
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    return build(file).encode(text);
  };
  const auto split = [](const Json& pattern) {
    return Json::array(
        {{{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}}});
  };
  EXPECT_THAT(encode(Json::array(), "1abc ab"), ElementsAre('1', 257, 258));
  EXPECT_THAT(encode(split({{"Regex", "b"}}), "abcab"), ElementsAre('a', 'b', 'c', 'a', 'b'));
  EXPECT_THAT(encode(split({{"String", "c"}}), "abcab"), ElementsAre(256, 'c', 256));
  EXPECT_THAT(encode(split({{"Regex", "(?=c)"}}), "abcab"), ElementsAre(256, 'c', 256));
  EXPECT_THAT(encode(split({{"Regex", "\\s"}}), " ab\u180eab"),
              ElementsAre(' ', 256, 0xe1, 0xa0, 0x8e, 256));
}

TEST(TokenizerSettings, PutsASpaceBeforeWords) {
  Json file = small_file();
  file["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(build(file).encode("ab"), ElementsAre(258));
  EXPECT_THAT(build(file).encode(" ab"), ElementsAre(258));
}

TEST(TokenizerSettings, IgnoresMergesForWholeTokens) {
  Json file = small_file();
  file["model"]["merges"] = Json::array({"b c"});
  EXPECT_THAT(build(file).encode("abc"), ElementsAre('a', 259));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(build(file).encode("abc abcab"), ElementsAre(257, ' ', 'a', 259, 'a', 'b'));
}

TEST(TokenizerSettings, TakesTheUnknownTokenForMissingBytes) {
  Json file = small_file();
  file["model"]["merges"] = Json::array();
  file["model"]["vocab"] = {{"a", 0}, {"<unk>", 1}};
  EXPECT_THAT(build(file).encode("azza"), ElementsAre(0, 0));
  file["model"]["unk_token"] = "<unk>";
  EXPECT_THAT(build(file).encode("azza"), ElementsAre(0, 1, 1, 0));
  file["model"]["fuse_unk"] = true;
  EXPECT_THAT(build(file).encode("azza"), ElementsAre(0, 1, 0));
}

TEST(TokenizerSettings, PutsSpecialTokensAroundText) {
  Json file = small_file();
  file["added_tokens"] = {added(260, "<s>", {{"special", true}}),
                          added(261, "</s>", {{"special", true}})};
  const auto special = [](const char* id) {
    return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}};
  };
  file["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        {{"type", "TemplateProcessing"},
         {"single",
          {special("<s>"), {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, special("</s>")}},
         {"special_tokens",
          {{"<s>", {{"id", "<s>"}, {"ids", {260}}}},
           {"</s>", {{"id", "</s>"}, {"ids", {261}}}}}}}}}};
  const Tokenizer tokenizer = build(file);
  EXPECT_THAT(tokenizer.encode("ab", true), ElementsAre(260, 256, 261));
  EXPECT_THAT(tokenizer.encode("ab", false), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(260, 261));
}

struct Damage {
  const char* place;  ///< JSON pointer
  const char* value;
  const char* message;  ///< part of it
};

class DamagedTokenizer : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedTokenizer, IsRefusedInOneLine) {
  Json file = small_file();
  file[Json::json_pointer(GetParam().place)] = Json::parse(GetParam().value);
  try {
    build(file);
    FAIL() << "no error";
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("tokenizer.json: ", 0), 0u) << message;
    EXPECT_THAT(message, HasSubstr(GetParam().message));
    EXPECT_THAT(message, HasSubstr("expected"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

constexpr Damage kDamages[] = {
    {"", "[]", "found []"},
    {"/model", "null", "model"},
    {"/model/type", "\"Unigram\"", "Unigram"},
    {"/model/vocab", "[]", "vocab"},
    {"/model/vocab/ab", "5", "second time"},
    {"/model/vocab/ab", "-1", "\"ab\""},
    {"/model/vocab/ab", "1000000000", "1000000000"},
    {"/model/vocab/ab", "\"1\"", "\"ab\""},
    {"/model/merges", "{}", "merges"},
    {"/model/merges/1", "\"abc\"", "merges[1]"},
    {"/model/merges/1", "\"a b c\"", "a b c"},
    {"/model/merges/1", "[\"a\"]", "merges[1]"},
    {"/model/merges/1", "\"a zz\"", "azz"},
    {"/model/merges/1", "\"c c\"", "\"cc\""},
    {"/model/dropout", "0.1", "dropout"},
    {"/model/byte_fallback", "true", "byte_fallback"},
    {"/model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
    {"/model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
    {"/model/unk_token", "\"<unk>\"", "unk_token"},
    {"/model/fuse_unk", "1", "fuse_unk"},
    {"/normalizer", R"({"type": "NFKC"})", "NFKC"},
    {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]})", "Lowercase"},
    {"/normalizer", R"({"type": "Sequence"})", "normalizers"},
    {"/pre_tokenizer", "null", "pre_tokenizer"},
    {"/pre_tokenizer/type", "\"Metaspace\"", "Metaspace"},
    {"/pre_tokenizer/add_prefix_space", "0", "add_prefix_space"},
    {"/pre_tokenizer", R"({"type": "Digits", "individual_digits": true})", "ByteLevel"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": false})",
     "Removed"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": true})",
     "invert"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false})",
     "(a"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated", "invert": false})",
     "w"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated", "invert": false})",
     "&&"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "\\p{Han}"}, "behavior": "Isolated", "invert": false})",
     "Han"},
    {"/pre_tokenizer",
     R"({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false})",
     "empty"},
    {"/decoder", "null", "decoder"},
    {"/decoder/type", "\"WordPiece\"", "WordPiece"},
    {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
    {"/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}], "special_tokens": {}})",
     "<s>"},
    {"/added_tokens", "{}", "added_tokens"},
    {"/added_tokens/0",
     R"({"id": 999, "content": "XY", "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})",
     "260"},
    {"/added_tokens/0",
     R"({"id": 260, "content": "", "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})",
     "content"},
    {"/added_tokens/0", R"({"id": 260, "content": "X"})", "special"},
};
INSTANTIATE_TEST_SUITE_P(Damages, DamagedTokenizer, ::testing::ValuesIn(kDamages));

TEST(TokenizerFile, IsNamedWhenItIsMissing) {
  try {
    Tokenizer::open("/no/such/model");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/model/tokenizer.json"));
  }
}

}  // namespace
}  // namespace farskip::io
