// Jinja templates, cut into tokens.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace farskip::io::jinja {

struct Token {
  enum class Kind {
    kText,        ///< outside of tags, white space already trimmed
    kPrintBegin,  ///< {{
    kPrintEnd,    ///< }}
    kBlockBegin,  ///< {%
    kBlockEnd,    ///< %}
    kName,
    kString,  ///< unescaped
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  std::string text;
  int line;  ///< from 1
};

/// InputError naming the place: "NAME: line L: found X, expected Y".
[[noreturn]] void refuse(const std::string& name, int line, const std::string& found,
                         const std::string& expected);

/// As jinja2 with trim_blocks and lstrip_blocks, which is how transformers runs it: a block or
/// comment takes the newline after it and the blanks before it, `-` all white space on its side.
/// The last token is kEnd. InputError for what is no template.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace farskip::io::jinja
