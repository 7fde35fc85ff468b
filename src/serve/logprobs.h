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

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of tokens that follow one another in
/// a choice's text. A token without log-probabilities (the first of a prompt) has null for them.
/// `count` of the likeliest are told, and the chosen one. Offsets count characters; `offset` is
/// that of the first token, and afterwards that of the next. Special tokens have no text.
io::Json completion_logprobs(const text::Tokenizer& tokenizer,
                             const std::vector<engine::Token>& tokens, int64_t count,
                             int64_t& offset);

/// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
io::Json chat_logprobs(const text::Tokenizer& tokenizer, const std::vector<engine::Token>& tokens,
                       int64_t count);

}  // namespace farskip::serve
