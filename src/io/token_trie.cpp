#include "io/token_trie.h"

namespace farskip::io {

void TokenTrie::add(std::string_view text, int64_t value) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const uint64_t edge = uint64_t{node} * 256 + static_cast<unsigned char>(c);
    const auto [child, is_new] = children_.try_emplace(edge, values_.size());
    if (is_new) values_.push_back(-1);
    node = child->second;
  }
  if (values_[node] < 0) values_[node] = value;
}

std::optional<TokenTrie::Match> TokenTrie::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    std::optional<Match> longest;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto child =
          children_.find(uint64_t{node} * 256 + static_cast<unsigned char>(text[at]));
      if (child == children_.end()) break;
      node = child->second;
      if (values_[node] >= 0) longest = Match{begin, at + 1, values_[node]};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace farskip::io
