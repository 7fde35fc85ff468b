#include "io/pre_tokenizer.h"

#include <utility>

#include "util/error.h"

namespace farskip::io {
namespace {

/// How GPT-2 cuts text, and what ByteLevel means by use_regex.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

PreTokenizer PreTokenizer::parse(const Fields& json) {
  PreTokenizer result;
  result.add(json);
  util::require(result.byte_level_, json.label(), shown(json.json()["type"]),
                "a last step ByteLevel (only byte-level BPE is supported)");
  return result;
}

void PreTokenizer::add(const Fields& json) {
  if (byte_level_)
    throw InputError(json.label() +
                     ": found a step after ByteLevel, expected ByteLevel to be last");
  const std::string type = json.string("type");
  if (type == "Sequence") {
    const Json& steps = json.json().value("pretokenizers", Json());
    if (!steps.is_array()) json.refuse("pretokenizers", "a list");
    for (size_t i = 0; i < steps.size(); ++i)
      add(Fields(steps[i], util::concat(json.label(), "[", i, "]")));
  } else if (type == "Split") {
    steps_.push_back(split_step(json));
  } else if (type == "Digits") {
    const bool single = json.boolean("individual_digits");
    steps_.push_back({false, {Regex::compile(single ? R"(\p{N})" : R"(\p{N}+)", json.label())}});
  } else if (type == "ByteLevel") {
    steps_.push_back(byte_level_step(json));
    byte_level_ = true;
  } else {
    json.refuse("type", "Sequence, Split, Digits or ByteLevel (others are not supported)");
  }
}

PreTokenizer::Step PreTokenizer::split_step(const Fields& json) {
  if (json.string("behavior") != "Isolated") json.refuse("behavior", "Isolated");
  if (json.boolean("invert")) json.refuse("invert", "false");
  const Fields pattern = json.object("pattern");
  if (pattern.has("String"))
    return {false, {Regex::literal(pattern.string("String"), pattern.label())}};
  return {false, {Regex::compile(pattern.string("Regex"), pattern.label())}};
}

PreTokenizer::Step PreTokenizer::byte_level_step(const Fields& json) {
  Step step{json.boolean("add_prefix_space"), {}};
  if (json.optional_boolean("use_regex").value_or(true))
    step.cut.push_back(Regex::compile(kGpt2, json.label()));
  return step;
}

Words PreTokenizer::split(std::string_view text) const {
  Words words;
  if (!text.empty()) words.views.push_back(text);
  std::vector<std::string_view> parts;
  for (const Step& step : steps_) {
    parts.clear();
    for (std::string_view part : words.views) {
      if (step.add_prefix_space && part.front() != ' ')
        part = words.owned.emplace_back(' ' + std::string(part));
      if (step.cut.empty())
        parts.push_back(part);
      else
        step.cut.front().split(part, parts);
    }
    std::swap(words.views, parts);
  }
  return words;
}

}  // namespace farskip::io
