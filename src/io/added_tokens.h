// The added_tokens of a tokenizer file: texts that become one id before anything else looks at
// them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/bpe.h"
#include "io/json_file.h"
#include "io/token_trie.h"

namespace farskip::io {

struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;      ///< left out of decoded text on demand
  bool single_word = false;  ///< found only where no letter or digit touches it
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool normalized = false;   ///< looked for in normalised text, after the others
};

/// Immutable; any number of threads may use it.
class AddedTokens {
 public:
  /// `json` is the list of the file. A token of the vocabulary keeps its id, the others follow the
  /// vocabulary in order. InputError if the file says otherwise. With `compose`, text is normalised
  /// to NFC between the two searches.
  static AddedTokens parse(const nlohmann::json& json, const Bpe& bpe, bool compose,
                           const std::string& label);

  struct Part {
    std::string text;           ///< normalised, to be split into words; empty if there is an id
    std::optional<int64_t> id;  ///< of an added token
  };
  /// Cuts valid UTF-8 into added tokens and the text between them.
  std::vector<Part> split(std::string_view text) const;

  /// In the order of the file.
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  std::optional<int64_t> id_of(std::string_view content) const;

 private:
  void cut(std::string_view text, const TokenTrie& trie, std::vector<Part>& parts) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;  ///< index in tokens_
  TokenTrie verbatim_, normalized_;                     ///< values: index in tokens_
  bool compose_ = false;
};

}  // namespace farskip::io
