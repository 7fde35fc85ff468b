#include "io/jinja/strings.h"

#include <algorithm>
#include <cctype>

#include "io/unicode.h"

namespace farskip::io::jinja {
namespace {

/// Whether a character is to be stripped.
class Stripped {
 public:
  explicit Stripped(Characters characters) {
    if (characters) set_ = code_points(*characters);
  }
  bool operator()(std::string_view character) const {
    const char32_t c = code_points(character)[0];
    return set_ ? set_->find(c) != std::u32string::npos : is_space(c);
  }

 private:
  std::optional<std::u32string> set_;
};

std::optional<std::string> map_ascii(std::string_view text, int (*change)(int)) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return std::nullopt;
    out += static_cast<char>(change(c));
  }
  return out;
}

/// Appends what `digits` characters from `at` say in hexadecimal.
bool append_hex(std::string_view text, size_t at, size_t digits, std::string& out) {
  if (at + digits > text.size()) return false;
  char32_t point = 0;
  for (const char c : text.substr(at, digits)) {
    if (!std::isxdigit(static_cast<unsigned char>(c))) return false;
    point =
        point * 16 + (std::isdigit(static_cast<unsigned char>(c)) ? c - '0' : (c | 32) - 'a' + 10);
  }
  if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return false;
  append_utf8(point, out);
  return true;
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view strip_left(std::string_view text, Characters characters) {
  const Stripped stripped(characters);
  while (!text.empty()) {
    const size_t length = utf8_length(static_cast<unsigned char>(text[0]));
    if (!stripped(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  return text;
}

std::string_view strip_right(std::string_view text, Characters characters) {
  const Stripped stripped(characters);
  while (!text.empty()) {
    size_t at = text.size() - 1;
    while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (!stripped(text.substr(at))) break;
    text = text.substr(0, at);
  }
  return text;
}

std::string_view strip(std::string_view text, Characters characters) {
  return strip_left(strip_right(text, characters), characters);
}

std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator) {
  std::vector<std::string> parts;
  if (separator) {
    for (size_t at = 0;;) {
      const size_t end = text.find(*separator, at);
      parts.emplace_back(text.substr(at, end - at));
      if (end == std::string_view::npos) return parts;
      at = end + separator->size();
    }
  }
  bool in_word = false;
  for (const std::string& character : characters_of(text)) {
    const bool space = is_space(code_points(character)[0]);
    if (!space && !in_word) parts.emplace_back();
    if (!space) parts.back() += character;
    in_word = !space;
  }
  return parts;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  const auto parts = split(text, from);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += to;
    out += parts[i];
  }
  return out;
}

std::optional<std::string> upper(std::string_view text) {
  return map_ascii(text, std::toupper);
}
std::optional<std::string> lower(std::string_view text) {
  return map_ascii(text, std::tolower);
}

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(static_cast<unsigned char>(text[at]));
    characters.emplace_back(text.substr(at, length));
    at += length;
  }
  return characters;
}

std::optional<std::string> unescape(std::string_view literal) {
  constexpr std::string_view kShort = "abfnrtv\\'\"";
  constexpr std::string_view kMeaning = "\a\b\f\n\r\t\v\\'\"";
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i];
      continue;
    }
    const char c = literal[++i];
    if (const size_t at = kShort.find(c); at != std::string_view::npos) {
      out += kMeaning[at];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      if (!append_hex(literal, i + 1, digits, out)) return std::nullopt;
      i += digits;
    } else if (std::isdigit(static_cast<unsigned char>(c)) || c == 'N') {
      return std::nullopt;  // octal and names: no template at hand uses them
    } else if (c != '\n') {
      out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace farskip::io::jinja
