// Finds given strings in a text: from the left, the longest first.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace farskip::io {

class TokenTrie {
 public:
  struct Match {
    size_t begin, end;  ///< byte offsets
    int64_t value;
  };

  TokenTrie() : values_(1, -1) {}

  /// Of equal texts the first counts; empty ones are never found.
  void add(std::string_view text, int64_t value);

  /// The first match at or after `from`.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  std::array<bool, 256> starts_{};                   ///< bytes that start a text, to skip others
  std::vector<int64_t> values_;                      ///< by node; -1: no text ends there
  std::unordered_map<uint64_t, uint32_t> children_;  ///< by node * 256 + byte
};

}  // namespace farskip::io
