// Who has which pages of the KV cache, and what finished sequences left in them.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace farskip::engine {

/// Pages are taken by sequences and given back. A page full of tokens whose beginning is known may
/// be registered: a later sequence that begins alike then shares it. Registered pages that nobody
/// has any more stay until memory is needed, and go the longest unused first. Used by one thread.
class PagePool {
 public:
  PagePool(int64_t pages, int64_t page_tokens, bool reuse);

  int64_t pages() const { return static_cast<int64_t>(state_.size()); }
  int64_t page_tokens() const { return page_tokens_; }
  /// Pages that some sequence has.
  int64_t used() const { return used_; }
  int64_t available() const { return pages() - used_; }
  int64_t pages_for(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }

  /// Shares the registered pages that `tokens` begin with, but leaves at least one token to be
  /// computed.
  std::vector<int64_t> share(std::span<const int64_t> tokens);
  /// Appends so many pages; false, and nothing is taken, if there are not enough.
  bool take(std::vector<int64_t>& pages, int64_t count);
  /// `pages` hold the keys and values of `tokens`, from a sequence's beginning. Registers the full
  /// ones from page `first` on.
  void register_full(std::span<const int64_t> pages, std::span<const int64_t> tokens,
                     int64_t first);
  void release(std::vector<int64_t>& pages);

 private:
  /// What a registered page holds: its own tokens, after those of the page that had the number
  /// `parent`. Numbers are given once, so that a page that is gone is no one's parent.
  struct Content {
    uint64_t parent = 0;
    std::vector<int64_t> tokens;
    auto operator<=>(const Content&) const = default;
  };
  using Registered = std::map<Content, int64_t>;
  struct Page {
    int64_t holders = 0;
    uint64_t number = 0;  ///< 0: not registered
    uint64_t released = 0;
    Registered::iterator entry = {};
  };

  void hold(int64_t page);
  int64_t take_one();

  int64_t page_tokens_, used_ = 0;
  bool reuse_;
  uint64_t numbers_ = 0, releases_ = 0;
  std::vector<Page> state_;
  std::vector<int64_t> free_;              ///< neither held nor registered
  std::map<uint64_t, int64_t> evictable_;  ///< registered and not held, by Page::released
  Registered registered_;
};

}  // namespace farskip::engine
