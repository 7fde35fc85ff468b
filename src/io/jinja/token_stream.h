// Tokens, read one by one with a look at the next.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/jinja/lexer.h"
#include "io/text.h"

namespace farskip::io::jinja {

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string name)
      : tokens_(std::move(tokens)), name_(std::move(name)) {}

  const Token& peek() const { return tokens_[at_]; }
  int line() const { return peek().line; }
  bool at(Token::Kind kind) const { return peek().kind == kind; }
  bool at_name(std::string_view text) const {
    return at(Token::Kind::kName) && peek().text == text;
  }
  bool at_operator(std::string_view text) const {
    return at(Token::Kind::kOperator) && peek().text == text;
  }
  /// Whether the token after the next is this name.
  bool name_follows(std::string_view text) const {
    return at_ + 1 < tokens_.size() && tokens_[at_ + 1].kind == Token::Kind::kName &&
           tokens_[at_ + 1].text == text;
  }

  /// The last token, kEnd, is never passed.
  Token next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool take_name(std::string_view text) { return at_name(text) && (next(), true); }
  bool take_operator(std::string_view text) { return at_operator(text) && (next(), true); }

  Token expect(Token::Kind kind, const std::string& expected) {
    if (!at(kind)) refuse_next(expected);
    return next();
  }
  void expect_operator(const std::string& text) {
    if (!take_operator(text)) refuse_next("\"" + text + "\"");
  }

  [[noreturn]] void refuse_next(const std::string& expected) const {
    static constexpr const char* kNames[] = {"text", "{{", "}}", "{%", "%}"};
    const auto kind = static_cast<size_t>(peek().kind);
    const std::string found = at(Token::Kind::kEnd)      ? "the end of the template"
                              : kind < std::size(kNames) ? kNames[kind]
                                                         : in_quotes(peek().text);
    refuse(name_, line(), found, expected);
  }
  const std::string& name() const { return name_; }

 private:
  std::vector<Token> tokens_;  ///< the last is kEnd
  size_t at_ = 0;
  std::string name_;
};

}  // namespace farskip::io::jinja
