// Byte-pair encoding: the model of a tokenizer file.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/json_file.h"

namespace farskip::io {

/// Immutable; any number of threads may use it.
class Bpe {
 public:
  Bpe(Bpe&&) = default;
  Bpe& operator=(Bpe&&) = default;  // no copies: ids_ views tokens_

  /// The `model` object of a tokenizer file. InputError naming what is damaged or not supported:
  /// ids must be 0..n-1, merges made of tokens.
  static Bpe parse(const nlohmann::json& model, const std::string& label);

  /// Appends the ids of the words, each encoded by itself. Bytes without a token become the
  /// unknown token or, as Hugging Face does it, nothing where there is none.
  void encode(const std::vector<std::string_view>& words, std::vector<int64_t>& ids) const;

  /// By id; spelt in the byte-level alphabet.
  const std::vector<std::string>& tokens() const { return tokens_; }
  std::optional<int64_t> id_of(std::string_view token) const;

 private:
  Bpe() = default;

  struct Merge {
    int32_t rank;  ///< lower is done first
    int32_t id;    ///< of the token that results
  };
  class Word;

  void read_vocabulary(const nlohmann::json& vocabulary, const std::string& label);
  void read_merges(const nlohmann::json& merges, const std::string& label);
  const Merge* merge_of(int32_t left, int32_t right) const;

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, int32_t> ids_;     ///< views of tokens_
  std::unordered_map<uint64_t, Merge> merges_;            ///< by both ids
  std::array<int32_t, 256> byte_ids_{};                   ///< -1: no token
  std::unordered_map<std::string, int32_t> whole_words_;  ///< only with ignore_merges
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false;
};

}  // namespace farskip::io
