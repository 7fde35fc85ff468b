// Log-probabilities in the two forms that OpenAI has for them.
#pragma once
#include <string>
#include <vector>

#include "engine/request.h"
#include "io/json_fields.h"
#include "text/tokenizer.h"

namespace farskip::serve {

/// A token as text: its characters, or "bytes:\xe2\x82" where its bytes are no whole ones.
/// "" for a token that the tokenizer does not know.
std::string token_text(const text::Tokenizer& tokenizer, int64_t token);

/// Where tokens that follow one another begin in a choice's text, in characters.
class TextOffsets {
 public:
  explicit TextOffsets(bool skip_special_tokens = true)
      : skip_special_tokens_(skip_special_tokens) {}

  /// The text begins with this one, which the first `tokens` were read from: those of them that do
  /// not stand in it, such as a BOS that the tokenizer set, have no text.
  void echo(std::string text, size_t tokens);
  /// That of the next token, which is this one.
  int64_t next(const text::Tokenizer& tokenizer, int64_t token);

 private:
  bool skip_special_tokens_;
  std::string echoed_;  ///< what is left of it
  size_t echoed_tokens_ = 0;
  int64_t offset_ = 0;
};

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of tokens that follow one another in
/// a choice's text. A token without log-probabilities (the first of a prompt) has null for them.
/// `count` of the likeliest are told, and the chosen one.
io::Json completion_logprobs(const text::Tokenizer& tokenizer,
                             const std::vector<engine::Token>& tokens, int64_t count,
                             TextOffsets& offsets);

/// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
io::Json chat_logprobs(const text::Tokenizer& tokenizer, const std::vector<engine::Token>& tokens,
                       int64_t count);

}  // namespace farskip::serve
