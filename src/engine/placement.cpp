#include "engine/placement.h"

#include <algorithm>

#include "util/fingerprint.h"

namespace farskip::engine {

Placement::Placement(int64_t ranks, int64_t pages, int64_t page_tokens, bool reuse)
    : pages_(pages), page_tokens_(page_tokens), reuse_(reuse && ranks > 1), ranks_(ranks) {}

std::vector<uint64_t> Placement::beginnings(const Request& request) const {
  std::vector<uint64_t> found;
  if (!reuse_ || request.prompt_log_probabilities) return found;  // those are computed whole
  const int64_t full = (std::ssize(request.prompt) - 1) / page_tokens_;
  uint64_t hash = util::fingerprint("");
  for (int64_t page = 0; page < full; ++page) {
    const int64_t* tokens = request.prompt.data() + page * page_tokens_;
    hash = util::fingerprint(
        {reinterpret_cast<const char*>(tokens), page_tokens_ * sizeof(*tokens)}, hash);
    found.push_back(hash);
  }
  return found;
}

void Placement::remember(Rank& rank, const std::vector<uint64_t>& beginnings) const {
  for (const uint64_t beginning : beginnings)
    if (rank.known.insert(beginning).second) rank.known_in_order.push_back(beginning);
  while (std::ssize(rank.known_in_order) > pages_) {
    rank.known.erase(rank.known_in_order.front());
    rank.known_in_order.pop_front();
  }
}

Place Placement::take(const Request& request) {
  const int64_t tokens = std::ssize(request.prompt) + request.max_new_tokens;
  const int64_t pages = (tokens + page_tokens_ - 1) / page_tokens_;
  const std::vector<uint64_t> prompt = beginnings(request);
  Place best{0, -1};
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const auto computed = std::find_if(prompt.begin(), prompt.end(), [&](uint64_t beginning) {
      return !ranks_[r].known.contains(beginning);
    });
    const Place place{static_cast<int64_t>(r), pages - (computed - prompt.begin())};
    const auto total = [&](const Place& at) { return ranks_[at.rank].pages + at.pages; };
    if (best.pages < 0 || total(place) < total(best) ||
        (total(place) == total(best) && place.pages < best.pages))
      best = place;
  }
  ranks_[best.rank].pages += best.pages;
  remember(ranks_[best.rank], prompt);
  return best;
}

}  // namespace farskip::engine
