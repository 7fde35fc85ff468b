// What is taken from generation_config.json, what is named, and what is refused.
#include "model/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "io/json_file.h"
#include "io/support.h"

namespace farskip::model {
namespace {

using testing::HasSubstr;

GenerationDefaults parse(const std::string& text) {
  return parse_generation_defaults(io::parse_json(text, "file"), "file", 100);
}

TEST(GenerationDefaults, TakesWhatVllmTakes) {
  const struct {
    const char* text;
    GenerationDefaults expected;
  } cases[] = {
      {"{}", {}},
      {R"({"eos_token_id": 7})", {.eos_tokens = {7}}},
      {R"({"eos_token_id": [7, 9.0, 7]})", {.eos_tokens = {7, 9, 7}}},
      {R"({"eos_token_id": null, "top_p": null, "max_length": null, "num_beams": null})", {}},
      {R"({"eos_token_id": -1})", {}},
      {R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0,
           "repetition_penalty": 1.05, "max_new_tokens": 2048, "bos_token_id": 1,
           "transformers_version": "4.51.0", "pad_token_id": 3})",
       {.temperature = 0.6,
        .top_p = 0.95,
        .top_k = 20,
        .min_p = 0,
        .repetition_penalty = 1.05,
        .max_new_tokens = 2048}},
      {R"({"do_sample": true, "top_k": -1, "max_length": 4096})",
       {.temperature = 1, .top_k = 0, .max_length = 4096}},
      {R"({"do_sample": false})", {}},
      {R"({"temperature": 0.6})", {.temperature = 0.6}},
      {R"({"num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0, "min_length": 0,
           "suppress_tokens": [], "renormalize_logits": true, "use_cache": true})",
       {}},
  };
  for (const auto& c : cases) EXPECT_EQ(parse(c.text), c.expected) << c.text;
}

TEST(GenerationDefaults, NamesWhatItDoesNotTake) {
  for (const char* text :
       {R"({"num_beams": 4})", R"({"no_repeat_ngram_size": 3})", R"({"suppress_tokens": [5]})",
        R"({"stop_strings": ["x"]})", R"({"min_new_tokens": 2})", R"({"a_new_field": 1})",
        R"({"do_sample": false, "temperature": 0.6})", R"({"guidance_scale": 1.5})"}) {
    const auto notes = parse(text).notes;
    ASSERT_EQ(notes.size(), 1u) << text;
    const std::string key = std::string(text).substr(2, std::string(text).find('"', 2) - 2);
    EXPECT_THAT(notes.front(), HasSubstr("file: " + key)) << text;
  }
}

TEST(GenerationDefaults, RefusesDamageByName) {
  for (const char* text :
       {R"({"eos_token_id": 100})", R"({"eos_token_id": "7"})", R"({"eos_token_id": [7, "a"]})",
        R"({"temperature": -1})", R"({"temperature": "0.6"})", R"({"top_p": 0})",
        R"({"top_p": 1.5})", R"({"top_k": 2.5})", R"({"min_p": 2})", R"({"repetition_penalty": 0})",
        R"({"max_new_tokens": 0})", R"({"max_length": "long"})", R"({"do_sample": "yes"})"}) {
    const std::string key = std::string(text).substr(2, std::string(text).find('"', 2) - 2);
    EXPECT_THAT(io::input_error([&] { parse(text); }), HasSubstr("file: " + key + ": found"))
        << text;
  }
  EXPECT_THAT(io::input_error([] { parse("[]"); }), HasSubstr("file: found"));
}

TEST(GenerationDefaults, AreThoseOfTheDirectory) {
  const io::TemporaryFolder folder;
  EXPECT_EQ(read_generation_defaults(folder.path(), 100), GenerationDefaults{});
  io::put_file(folder / "generation_config.json", R"({"eos_token_id": [3, 2]})");
  const auto defaults = read_generation_defaults(folder.path(), 100);
  EXPECT_EQ(end_tokens({2}, defaults), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(end_tokens({}, {}), std::vector<int64_t>{});
  io::put_file(folder / "generation_config.json", "{");
  EXPECT_THAT(io::input_error([&] { read_generation_defaults(folder.path(), 100); }),
              HasSubstr("generation_config.json: found invalid JSON"));
}

}  // namespace
}  // namespace farskip::model
