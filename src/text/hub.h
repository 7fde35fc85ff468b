// Hugging Face's own code behind plain values: hub.cpp is the one file that knows Python.
// The interpreter starts with the first call (about 0.1 s) and stays until the process ends; its
// lock is held only during a call, and not while a long text is encoded.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/token_bytes.h"

namespace farskip::text {

/// What a Tokenizer stands on. Any thread may call it. All throw InputError for what a user can
/// mend: files, missing packages.
class HubTokenizer {
 public:
  virtual ~HubTokenizer() = default;
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  /// `clean_up`: take out the spaces that clean_up_tokenization_spaces, where it is set, is about.
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special_tokens,
                             bool clean_up) const = 0;
  virtual std::optional<int64_t> id_of(std::string_view token) const = 0;
  /// By id; empty where an id has none.
  virtual std::vector<std::string> tokens() const = 0;
  virtual Spelling spelling() const = 0;
  virtual std::vector<int64_t> special_ids() const = 0;
  virtual std::map<std::string, std::string> special_tokens() const = 0;
};

/// What a ChatTemplate stands on. The same holds.
class HubTemplates {
 public:
  virtual ~HubTemplates() = default;
  virtual Rendered render(const Conversation& conversation) const = 0;
};

}  // namespace farskip::text
