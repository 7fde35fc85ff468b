// Which rank works on a request, where every rank has sequences of its own.
#pragma once
#include <cstdint>
#include <deque>
#include <unordered_set>
#include <vector>

#include "engine/request.h"

namespace farskip::engine {

/// A sequence's rank, and the pages that it was reckoned to add there.
struct Place {
  int64_t rank = 0;
  int64_t pages = 0;
};

/// Keeps account of the KV pages that the open sequences of every rank need, if all their tokens
/// come. A request goes where there are the fewest with its own; of those, a rank that has computed
/// the beginning of its prompt needs fewer. What ranks have computed is remembered of as many pages
/// as they hold; whether it is still there they know, and nothing is wrong where it is not.
class Placement {
 public:
  /// pages, page_tokens: of a rank's cache. `reuse`: prompts share pages.
  Placement(int64_t ranks, int64_t pages, int64_t page_tokens, bool reuse);

  Place take(const Request& request);
  void release(const Place& place) { ranks_[place.rank].pages -= place.pages; }

 private:
  struct Rank {
    int64_t pages = 0;                    ///< of its open sequences
    std::unordered_set<uint64_t> known;   ///< beginnings of prompts, by their fingerprints
    std::deque<uint64_t> known_in_order;  ///< the oldest first
  };
  /// Of the prompt up to the end of each full page, its last token left out.
  std::vector<uint64_t> beginnings(const Request& request) const;
  void remember(Rank& rank, const std::vector<uint64_t>& beginnings) const;

  int64_t pages_, page_tokens_;
  bool reuse_;
  std::vector<Rank> ranks_;
};

}  // namespace farskip::engine
