#include "io/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "io/text.h"
#include "io/unicode.h"
#include "util/error.h"

namespace farskip::io {
namespace {

AddedToken read_token(const Fields& json) {
  AddedToken token;
  token.id = json.integer("id", 0);
  token.content = json.string("content");
  if (token.content.empty()) json.refuse("content", "text");
  token.special = json.boolean("special");
  token.single_word = json.boolean("single_word");
  token.lstrip = json.boolean("lstrip");
  token.rstrip = json.boolean("rstrip");
  token.normalized = json.boolean("normalized");
  return token;
}

/// White_Space of Unicode.
bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// \w of Unicode's regular expressions (Technical Standard 18, annex C), less the few symbols that
/// count as alphabetic.
bool is_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // circled letters are alphabetic symbols; the joiners count as well
      return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C ||
             c == 0x200D;
  }
}

/// Start of the last character of a text that isn't empty.
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

char32_t decode_one(std::string_view character) {
  return code_points(character)[0];
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word(decode_one(text.substr(last_character(text))));
}

bool starts_with_word(std::string_view text) {
  return !text.empty() &&
         is_word(decode_one(text.substr(0, utf8_length(static_cast<unsigned char>(text[0])))));
}

/// Where the white space at the end of the text starts.
size_t start_of_trailing_space(std::string_view text) {
  while (!text.empty()) {
    const size_t at = last_character(text);
    if (!is_space(decode_one(text.substr(at)))) break;
    text = text.substr(0, at);
  }
  return text.size();
}

/// Bytes of white space at the start of the text.
size_t leading_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = utf8_length(static_cast<unsigned char>(text[at]));
    if (!is_space(decode_one(text.substr(at, length)))) break;
    at += length;
  }
  return at;
}

}  // namespace

AddedTokens AddedTokens::parse(const nlohmann::json& json, const Bpe& bpe, bool compose,
                               const std::string& label) {
  AddedTokens result;
  result.compose_ = compose;
  if (json.is_null()) return result;
  util::require(json.is_array(), label, shown(Json(json)), "a list");
  auto next_id = static_cast<int64_t>(bpe.tokens().size());
  for (size_t i = 0; i < json.size(); ++i) {
    const Fields fields(Json(json[i]), util::concat(label, "[", i, "]"));
    AddedToken token = read_token(fields);
    if (!result.by_content_.emplace(token.content, i).second)
      fields.refuse("content", "each token once");
    const auto known = bpe.id_of(token.content);
    const int64_t id = known ? *known : next_id++;
    if (token.id != id) fields.refuse("id", util::concat(id, " for ", in_quotes(token.content)));
    result.tokens_.push_back(std::move(token));
  }
  // Hugging Face looks for special tokens first, which counts where two normalise to one text.
  for (const bool special : {true, false})
    for (size_t i = 0; i < result.tokens_.size(); ++i) {
      const AddedToken& token = result.tokens_[i];
      if (token.special != special) continue;
      if (token.normalized)
        result.normalized_.add(compose ? nfc(token.content) : token.content, i);
      else
        result.verbatim_.add(token.content, i);
    }
  return result;
}

std::optional<int64_t> AddedTokens::id_of(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  if (found == by_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text) const {
  std::vector<Part> first, parts;
  cut(text, verbatim_, first);
  for (Part& part : first) {
    if (part.id)
      parts.push_back(std::move(part));
    else
      cut(compose_ ? nfc(part.text) : part.text, normalized_, parts);
  }
  return parts;
}

void AddedTokens::cut(std::string_view text, const TokenTrie& trie,
                      std::vector<Part>& parts) const {
  const auto add_text = [&](size_t from, size_t to) {
    if (from < to) parts.push_back({std::string(text.substr(from, to - from)), std::nullopt});
  };
  size_t done = 0;  // end of the last part
  size_t from = 0;  // where to search on
  while (const auto match = trie.find(text, from)) {
    auto [begin, end, index] = *match;
    from = end;
    const AddedToken& token = tokens_[index];
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token.lstrip) begin = std::max(start_of_trailing_space(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_space(text.substr(end));
    add_text(done, begin);
    parts.push_back({"", token.id});
    done = end;
  }
  add_text(done, text.size());
}

}  // namespace farskip::io
