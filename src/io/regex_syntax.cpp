// From Oniguruma's syntax to PCRE2's. Where the two read one text differently, and no file at hand
// shows the need, the construct is refused: a tokenizer that is a little wrong is worse than none.
#include <array>
#include <cctype>

#include "io/regex.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

// Unicode's White_Space, which \s means to Oniguruma. PCRE2's \s adds U+180E.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{d} \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

constexpr std::array<std::string_view, 37> kCategories = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
    "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

constexpr std::array<std::string_view, 8> kGroups = {"(?:", "(?i:", "(?=",  "(?!",
                                                     "(?>", "(?<=", "(?<!", "(?-i:"};

class Translator {
 public:
  Translator(std::string_view in, const std::string& name) : in_(in), name_(name) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        set();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else if (c == '^' || c == '$') {
        refuse(std::string(1, c));
      } else {
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& construct) const {
    throw InputError(util::concat(name_, ": found ", in_quotes(construct), " in the expression ",
                                  in_quotes(in_), ", expected none (it is not supported)"));
  }

  /// Takes the next n bytes as they are.
  void take(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }

  void escape(bool in_set) {
    if (at_ + 1 == in_.size()) refuse("\\");
    const char c = in_[at_ + 1];
    if (c == 's' || c == 'S') {
      if (in_set)
        out_ += c == 's' ? kSpace : kNotSpace;
      else
        out_ += util::concat(c == 's' ? "[" : "[^", kSpace, "]");
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      property();
    } else if (std::string_view("dDnrtf").find(c) != std::string_view::npos ||
               std::ispunct(static_cast<unsigned char>(c)) || c == ' ') {
      take(2);
    } else {
      refuse(std::string(in_.substr(at_, 2)));
    }
  }

  void property() {
    const size_t end = in_.find('}', at_);
    const std::string_view whole =
        in_.substr(at_, end == std::string_view::npos ? 2 : end + 1 - at_);
    const std::string_view name =
        whole.size() > 4 && whole[2] == '{' ? whole.substr(3, whole.size() - 4) : "";
    for (const std::string_view category : kCategories)
      if (name == category) return take(whole.size());
    refuse(std::string(whole));
  }

  void set() {
    const size_t start = at_;
    take(1);
    if (at_ < in_.size() && in_[at_] == '^') take(1);
    if (at_ < in_.size() && in_[at_] == ']') refuse("[]");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '[' || in_.substr(at_, 2) == "&&") refuse(std::string(in_.substr(start, 24)));
      if (in_[at_] == '\\')
        escape(true);
      else
        take(1);
    }
    if (at_ == in_.size()) refuse(std::string(in_.substr(start, 24)));
    take(1);
  }

  void group() {
    if (in_.substr(at_, 2) != "(?") return take(1);
    for (const std::string_view opening : kGroups)
      if (in_.substr(at_, opening.size()) == opening) return take(opening.size());
    refuse(std::string(in_.substr(at_, 4)));
  }

  /// {n}, {n,} and {n,m}; what may follow to make it lazy or possessive differs.
  void interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && std::isdigit(static_cast<unsigned char>(in_[end]))) ++end;
    const bool has_least = end > at_ + 1;
    if (end < in_.size() && in_[end] == ',') ++end;
    while (end < in_.size() && std::isdigit(static_cast<unsigned char>(in_[end]))) ++end;
    const bool closed = end < in_.size() && in_[end] == '}';
    const char next = end + 1 < in_.size() ? in_[end + 1] : ' ';
    if (!has_least || !closed || next == '+' || next == '?')
      refuse(std::string(in_.substr(at_, end + 2 - at_)));
    take(end + 1 - at_);
  }

  std::string_view in_;
  const std::string& name_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view oniguruma, const std::string& name) {
  return Translator(oniguruma, name).run();
}

}  // namespace farskip::io
