// The first byte chooses: what follows is a tokenizer.json, a text for a tokenizer that uses every
// step, or a chat template.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "io/byte_level.h"
#include "io/chat_template.h"
#include "io/json_file.h"
#include "io/tokenizer.h"
#include "util/error.h"

namespace {

using farskip::InputError;
using farskip::io::Json;
using farskip::io::Tokenizer;

Json added(int id, const char* content, bool flag) {
  return {{"id", id},       {"content", content}, {"special", flag},    {"single_word", !flag},
          {"lstrip", flag}, {"rstrip", true},     {"normalized", !flag}};
}

Tokenizer fixed_tokenizer() {
  Json vocabulary = Json::object();
  for (const std::string& character : farskip::io::byte_level_alphabet())
    vocabulary[character] = vocabulary.size();
  for (const char* token : {"ab", "abc", "Ġab"}) vocabulary[token] = vocabulary.size();
  const Json regex = {{"type", "Split"},
                      {"pattern", {{"Regex", R"([^\r\n\p{L}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+)"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json file = {
      {"added_tokens", {added(259, "<x>", true), added(260, "né", false)}},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers", {regex, {{"type", "ByteLevel"}, {"add_prefix_space", true}}}}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"a b", "ab c", "Ġ ab"}}}}};
  return Tokenizer::parse(file.dump(), "fixed");
}

void encode(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text, true);
  const std::string decoded = tokenizer.decode(ids, false);
  if (farskip::io::first_invalid_utf8(decoded) != decoded.size()) std::abort();
}

void render(std::string_view source) {
  const auto chat = farskip::io::ChatTemplate::parse(source, {{"eos_token", "</s>"}}, "template");
  const Json messages = {{{"role", "user"}, {"content", "a b"}},
                         {{"role", "assistant"}, {"content", "é"}}};
  chat.render(messages, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer fixed = fixed_tokenizer();
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0] % 3) {
      case 0:
        encode(Tokenizer::parse(rest, "fuzzed"), "abc <x> é 12\n");
        break;
      case 1:
        encode(fixed, rest);
        break;
      default:
        render(rest);
    }
  } catch (const InputError&) {
  }
  return 0;
}
