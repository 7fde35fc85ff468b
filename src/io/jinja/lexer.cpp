#include "io/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "io/jinja/strings.h"
#include "io/text.h"
#include "io/unicode.h"
#include "util/error.h"

namespace farskip::io::jinja {
namespace {

constexpr std::array<std::string_view, 6> kLongOperators = {"//", "**", "==", "!=", ">=", "<="};
constexpr std::string_view kOperators = "+-/*%~[](){}<>=.:|,";

/// Newlines as "\n", and without the last one.
std::string normal_newlines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name)
      : source_(normal_newlines(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      text();
      if (at_ == source_.size()) break;
      if (source_[at_ + 1] == '#')
        comment();
      else
        tag();
    }
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  bool next_is(std::string_view what) const {
    return std::string_view(source_).substr(at_, what.size()) == what;
  }

  void skip(size_t n) {
    line_ += std::count(source_.begin() + at_, source_.begin() + at_ + n, '\n');
    at_ += n;
  }

  size_t next_tag() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && std::string_view("{%#").find(source_[i + 1]) != std::string::npos)
        return i;
    return source_.size();
  }

  /// Text up to the next tag, less the white space that the tag takes.
  void text() {
    const size_t end = next_tag();
    std::string_view text = std::string_view(source_).substr(at_, end - at_);
    const int line = line_;
    if (end < source_.size()) {
      const char sign = end + 2 < source_.size() ? source_[end + 2] : ' ';
      if (sign == '-') {
        text = strip_right(text);
      } else if (sign != '+' && source_[end + 1] != '{') {
        const size_t newline = text.rfind('\n');
        const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
        if ((start > 0 || line_starts_) && strip_right(text.substr(start)).empty())
          text = text.substr(0, start);
      }
    }
    if (!text.empty()) tokens_.push_back({Token::Kind::kText, std::string(text), line});
    skip(end - at_);
  }

  /// The end of a tag, after its sign has been seen: what it takes of the text that follows.
  void close(size_t length, bool takes_all, bool takes_newline) {
    const size_t start = at_;
    skip(length);
    if (takes_all) {
      const std::string_view rest = std::string_view(source_).substr(at_);
      skip(rest.size() - strip_left(rest).size());
    } else if (takes_newline && next_is("\n")) {
      skip(1);
    }
    line_starts_ = at_ > start && source_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t end = source_.find("#}", at_ + 2);
    if (end == std::string::npos) refuse(name_, line_, "a comment without an end", "#}");
    const char sign = end > at_ + 2 ? source_[end - 1] : ' ';
    skip(end - at_);
    close(2, sign == '-', sign != '+');
  }

  void tag() {
    const bool print = source_[at_ + 1] == '{';
    add(print ? Token::Kind::kPrintBegin : Token::Kind::kBlockBegin, "");
    const std::string_view closing = print ? "}}" : "%}";
    const int begin_line = line_;
    skip(2);
    if (next_is("-") || next_is("+")) skip(1);
    int depth = 0;  // of brackets: }} may close two dictionaries
    for (;;) {
      while (at_ < source_.size() && is_space(static_cast<unsigned char>(source_[at_]))) skip(1);
      if (at_ == source_.size())
        refuse(name_, begin_line, "a tag without an end", std::string(closing));
      const bool minus = next_is("-"), plus = next_is("+") && !print;
      const size_t sign = minus || plus ? 1 : 0;
      if (depth == 0 && std::string_view(source_).substr(at_ + sign, 2) == closing) {
        add(print ? Token::Kind::kPrintEnd : Token::Kind::kBlockEnd, "");
        return close(2 + sign, minus, !print && !plus);
      }
      depth += expression_token();
    }
  }

  /// One token of an expression; returns by how much it changes the depth of brackets.
  int expression_token() {
    const unsigned char c = source_[at_];
    if (std::isalpha(c) || c == '_') {
      size_t end = at_;
      while (end < source_.size() &&
             (std::isalnum(static_cast<unsigned char>(source_[end])) || source_[end] == '_'))
        ++end;
      take(Token::Kind::kName, end - at_);
    } else if (std::isdigit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string();
    } else {
      for (const std::string_view both : kLongOperators)
        if (next_is(both)) return take(Token::Kind::kOperator, 2), 0;
      if (kOperators.find(c) == std::string_view::npos)
        refuse(name_, line_, in_quotes(std::string_view(source_).substr(at_, 1)), "an expression");
      take(Token::Kind::kOperator, 1);
      if (std::string_view("([{").find(c) != std::string_view::npos) return 1;
      if (std::string_view(")]}").find(c) != std::string_view::npos) return -1;
    }
    return 0;
  }

  void take(Token::Kind kind, size_t length) {
    add(kind, source_.substr(at_, length));
    at_ += length;
  }

  void number() {
    size_t end = at_;
    const auto digits = [&] {
      while (end < source_.size() && std::isdigit(static_cast<unsigned char>(source_[end]))) ++end;
    };
    digits();
    Token::Kind kind = Token::Kind::kInteger;
    if (end + 1 < source_.size() && source_[end] == '.' &&
        std::isdigit(static_cast<unsigned char>(source_[end + 1]))) {
      kind = Token::Kind::kFloat;
      ++end;
      digits();
    }
    if (end < source_.size() && (std::isalpha(static_cast<unsigned char>(source_[end])) ||
                                 source_[end] == '_' || end - at_ > 18))
      refuse(name_, line_, in_quotes(source_.substr(at_, end + 1 - at_)), "a plain number");
    take(kind, end - at_);
  }

  void string() {
    const char quote = source_[at_];
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) refuse(name_, line_, "a string without an end", "a closing quote");
    const std::string_view inside = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    const auto text = unescape(inside);
    if (!text) refuse(name_, line_, in_quotes(inside), "escapes as Python has them");
    add(Token::Kind::kString, *text);
    skip(end + 1 - at_);
  }

  const std::string source_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  ///< the text at at_ starts a line, as far as trimming is concerned
  std::vector<Token> tokens_;
};

}  // namespace

void refuse(const std::string& name, int line, const std::string& found,
            const std::string& expected) {
  throw InputError(util::concat(name, ": line ", line, ": found ", found, ", expected ", expected));
}

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  const size_t invalid = first_invalid_utf8(source);
  util::require(invalid == source.size(), name, util::concat("invalid UTF-8 at byte ", invalid),
                "valid UTF-8");
  return Lexer(source, name).run();
}

}  // namespace farskip::io::jinja
