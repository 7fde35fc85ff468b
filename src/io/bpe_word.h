// One word on its way through byte-pair encoding.
#pragma once
#include <cstdint>
#include <queue>
#include <vector>

#include "io/bpe.h"

namespace farskip::io {

/// Symbols in a doubly linked list, and the merges that are possible in a queue: n log n, where a
/// search for the best merge each time would take n^2 on a word of n bytes.
class Bpe::Word {
 public:
  explicit Word(const Bpe& bpe) : bpe_(bpe) {}

  /// Appends the ids of the word.
  void encode(std::string_view bytes, std::vector<int64_t>& ids);

 private:
  struct Symbol {
    int32_t id;              ///< -1: merged into the one before
    int32_t previous, next;  ///< -1: none
  };
  struct Candidate {
    Merge merge;
    int32_t at;  ///< the left symbol
    /// The worst first, as priority_queue has it: by rank, then from the left.
    bool operator<(const Candidate& other) const {
      return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : at > other.at;
    }
  };

  void read(std::string_view bytes);
  void push(int32_t id);
  void consider(int32_t at);
  void apply(const Candidate& best);

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace farskip::io
