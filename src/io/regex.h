// Regular expressions of tokenizer files. They are written for Oniguruma in Ruby's syntax and run
// here by PCRE2.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace farskip::io {

/// The same expression in PCRE2's syntax. Only what means the same in both, or can be rewritten so
/// that it does, is let through: InputError "NAME: ..." for anything else.
std::string translate_regex(std::string_view oniguruma, const std::string& name);

/// A compiled expression, immutable; any number of threads may use it.
class Regex {
 public:
  /// From Oniguruma's syntax. InputError with `name` if it does not compile or translate.
  static Regex compile(std::string_view oniguruma, const std::string& name);
  /// Matches this text and nothing else, which must not be empty.
  static Regex literal(std::string_view text, const std::string& name);

  /// Cuts valid UTF-8 before and after every match and appends the parts that are not empty, in
  /// order. Error if the expression needs too many steps on this text.
  void split(std::string_view text, std::vector<std::string_view>& parts) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  static Regex build(std::string_view pattern, unsigned options, const std::string& name);

  std::shared_ptr<const Code> code_;
};

}  // namespace farskip::io
