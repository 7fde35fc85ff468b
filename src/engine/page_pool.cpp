#include "engine/page_pool.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::engine {

PagePool::PagePool(int64_t pages, int64_t page_tokens, bool reuse)
    : page_tokens_(page_tokens), reuse_(reuse), state_(pages) {
  for (int64_t page = pages; page-- > 0;) free_.push_back(page);
}

void PagePool::hold(int64_t page) {
  Page& state = state_[page];
  if (state.holders++ > 0) return;
  if (state.number > 0) evictable_.erase(state.released);
  ++used_;
}

std::vector<int64_t> PagePool::share(std::span<const int64_t> tokens) {
  std::vector<int64_t> found;
  uint64_t parent = 0;
  const auto most = (static_cast<int64_t>(tokens.size()) - 1) / page_tokens_;
  for (int64_t i = 0; i < most; ++i) {
    const auto own = tokens.subspan(i * page_tokens_, page_tokens_);
    const auto entry = registered_.find({parent, {own.begin(), own.end()}});
    if (entry == registered_.end()) break;
    hold(entry->second);
    found.push_back(entry->second);
    parent = state_[entry->second].number;
  }
  return found;
}

int64_t PagePool::take_one() {
  int64_t page;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = evictable_.begin()->second;
    evictable_.erase(evictable_.begin());
    registered_.erase(state_[page].entry);
    state_[page].number = 0;
  }
  hold(page);
  return page;
}

bool PagePool::take(std::vector<int64_t>& pages, int64_t count) {
  if (count > available()) return false;
  for (int64_t i = 0; i < count; ++i) pages.push_back(take_one());
  return true;
}

void PagePool::register_full(std::span<const int64_t> pages, std::span<const int64_t> tokens,
                             int64_t first) {
  if (!reuse_) return;
  const auto full = static_cast<int64_t>(tokens.size()) / page_tokens_;
  for (int64_t i = first; i < full; ++i) {
    const uint64_t parent = i == 0 ? 0 : state_[pages[i - 1]].number;
    // Where another sequence has registered the same beginning, this one's pages stay its own.
    if (i > 0 && parent == 0) return;
    const auto own = tokens.subspan(i * page_tokens_, page_tokens_);
    const auto [entry, added] = registered_.insert({{parent, {own.begin(), own.end()}}, pages[i]});
    if (!added) return;
    state_[pages[i]].number = ++numbers_;
    state_[pages[i]].entry = entry;
  }
}

void PagePool::release(std::vector<int64_t>& pages) {
  // The last ones first: what begins a sequence is of use to more than what ends it.
  for (size_t i = pages.size(); i-- > 0;) {
    Page& state = state_[pages[i]];
    if (state.holders < 1) throw Error(util::concat("page ", pages[i], " was released twice"));
    if (--state.holders > 0) continue;
    --used_;
    if (state.number == 0) {
      free_.push_back(pages[i]);
    } else {
      state.released = ++releases_;
      evictable_[state.released] = pages[i];
    }
  }
  pages.clear();
}

}  // namespace farskip::engine
