#include "serve/logprobs.h"

#include <algorithm>
#include <cstdio>

#include "io/unicode.h"

namespace farskip::serve {
namespace {

using io::Json, text::Tokenizer;

std::string_view bytes_of(const Tokenizer& tokenizer, int64_t token) {
  return token < tokenizer.vocabulary_size() ? tokenizer.bytes_of(token) : "";
}

/// JSON has no infinities; vLLM's stand-in for them.
double finite(double logprob) {
  return std::max(logprob, -9999.0);
}

/// A character counts where it begins, so that one in two tokens counts once.
int64_t characters(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

/// How many bytes of `text` a token covers that was read from it at its beginning.
size_t covered(std::string_view text, std::string_view token, bool is_special) {
  constexpr size_t kSkipped = 16;  // spaces that a special token swallowed, say
  if (text.starts_with(token)) return token.size();
  if (is_special) return 0;
  if (token.starts_with(' ') && text.starts_with(token.substr(1))) return token.size() - 1;
  const size_t at = text.substr(0, kSkipped + token.size()).find(token);
  return std::min(at == text.npos ? token.size() : at + token.size(), text.size());
}

Json chat_token(const Tokenizer& tokenizer, int64_t token, double logprob) {
  Json bytes = Json::array();
  for (const char c : bytes_of(tokenizer, token)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", token_text(tokenizer, token)},
          {"logprob", finite(logprob)},
          {"bytes", std::move(bytes)}};
}

}  // namespace

std::string token_text(const Tokenizer& tokenizer, int64_t token) {
  const auto bytes = bytes_of(tokenizer, token);
  if (io::first_invalid_utf8(bytes) == bytes.size()) return std::string(bytes);
  std::string text = "bytes:";
  for (const char c : bytes) {
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
    text += hex;
  }
  return text;
}

void TextOffsets::echo(std::string text, size_t tokens) {
  echoed_ = std::move(text);
  echoed_tokens_ = tokens;
}

int64_t TextOffsets::next(const Tokenizer& tokenizer, int64_t token) {
  const int64_t begin = offset_;
  const std::string_view bytes = bytes_of(tokenizer, token);
  const bool is_special = token < tokenizer.vocabulary_size() && tokenizer.is_special(token);
  if (echoed_tokens_ == 0) {
    if (!is_special || !skip_special_tokens_) offset_ += characters(bytes);
    return begin;
  }
  const size_t end = --echoed_tokens_ == 0 ? echoed_.size() : covered(echoed_, bytes, is_special);
  offset_ += characters(std::string_view(echoed_).substr(0, end));
  echoed_.erase(0, end);
  return begin;
}

Json completion_logprobs(const Tokenizer& tokenizer, const std::vector<engine::Token>& tokens,
                         int64_t count, TextOffsets& offsets) {
  Json texts = Json::array(), chosen = Json::array(), top = Json::array(), begins = Json::array();
  for (const engine::Token& token : tokens) {
    const std::string text = token_text(tokenizer, token.id);
    texts.push_back(text);
    begins.push_back(offsets.next(tokenizer, token.id));
    if (!token.log_probabilities) {
      chosen.push_back(nullptr);
      top.push_back(nullptr);
      continue;
    }
    chosen.push_back(finite(token.log_probabilities->chosen));
    Json likeliest = Json::object();
    // Of two tokens with one text the likelier is told.
    for (const auto& [id, logprob] : token.log_probabilities->top)
      if (static_cast<int64_t>(likeliest.size()) < count)
        likeliest.emplace(token_text(tokenizer, id), finite(logprob));
    likeliest.emplace(text, finite(token.log_probabilities->chosen));
    top.push_back(std::move(likeliest));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(chosen)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(begins)}};
}

Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<engine::Token>& tokens,
                   int64_t count) {
  Json content = Json::array();
  for (const engine::Token& token : tokens) {
    if (!token.log_probabilities) continue;
    Json entry = chat_token(tokenizer, token.id, token.log_probabilities->chosen);
    Json top = Json::array();
    for (const auto& [id, logprob] : token.log_probabilities->top)
      if (static_cast<int64_t>(top.size()) < count)
        top.push_back(chat_token(tokenizer, id, logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

}  // namespace farskip::serve
