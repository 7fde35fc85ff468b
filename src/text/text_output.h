// A sequence's text as its tokens come, up to a stop string.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace farskip::text {

struct TextOutputOptions {
  std::vector<std::string> stops = {};  ///< none empty
  bool skip_special_tokens = true;
  bool include_stop = false;  ///< the stop string is part of the text
};

/// A stop string may stand across tokens: what could be its beginning is held back until it is
/// known. Neither it, unless asked for, nor what follows it is part of the text. One that is the
/// text of a special token ends the output where that token comes, shown or not.
class TextOutput {
 public:
  /// InputError for an empty stop string.
  TextOutput(const Tokenizer& tokenizer, TextOutputOptions options);

  /// Text that is certain now, after this token. A model's vocabulary may be larger than its
  /// tokenizer's: what is beyond has no text.
  std::string push(int64_t token);
  /// The rest, when no token follows.
  std::string finish();

  /// Whether a stop string is complete; nothing is to be pushed then.
  bool stopped() const { return stopped_; }
  /// All of it so far, what is held back too.
  const std::string& text() const { return text_; }

 private:
  std::string append(const std::string& piece);
  std::string given_until(size_t end);

  int64_t with_text_;  ///< tokens below it
  TextStream stream_;
  TextOutputOptions options_;
  std::vector<std::pair<int64_t, std::string>> special_stops_;
  std::string text_;
  size_t given_ = 0;
  bool stopped_ = false;
};

}  // namespace farskip::text
