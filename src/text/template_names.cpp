#include "text/template_names.h"

#include <algorithm>
#include <cctype>

namespace farskip::text {
namespace {

bool is_word(char c) {
  return c == '_' || std::isalnum(static_cast<unsigned char>(c));
}

/// Behind the string that begins at `begin`.
size_t string_end(std::string_view text, size_t begin) {
  size_t end = begin + 1;
  while (end < text.size() && text[end] != text[begin]) end += text[end] == '\\' ? 2 : 1;
  return std::min(end + 1, text.size());
}

}  // namespace

TemplateNames::TemplateNames(std::string_view source) : has_template_(true) {
  for (size_t at = 0; (at = source.find('{', at)) != std::string_view::npos;) {
    const char kind = at + 1 < source.size() ? source[at + 1] : ' ';
    if (kind != '{' && kind != '%' && kind != '#') {
      ++at;
      continue;
    }
    const std::string close = kind == '{' ? "}}" : std::string{kind, '}'};
    size_t end = at + 2;
    while (end < source.size() && !source.substr(end).starts_with(close)) {
      const bool quoted = kind != '#' && (source[end] == '\'' || source[end] == '"');
      end = quoted ? string_end(source, end) : end + 1;
    }
    if (kind != '#') read_tag(source.substr(at + 2, end - at - 2));
    at = end;
  }
}

void TemplateNames::read_tag(std::string_view tag) {
  for (size_t at = 0; at < tag.size();) {
    size_t end = at + 1;
    if (tag[at] == '\'' || tag[at] == '"') {
      end = string_end(tag, at);
      const std::string text(tag.substr(at + 1, end - at - 2));
      if (std::all_of(text.begin(), text.end(), is_word)) fields_.insert(text);
    } else if (is_word(tag[at])) {
      while (end < tag.size() && is_word(tag[end])) ++end;
      const bool follows_dot = at > 0 && tag[at - 1] == '.';
      (follows_dot ? fields_ : variables_).emplace(tag.substr(at, end - at));
    }
    at = end;
  }
}

}  // namespace farskip::text
