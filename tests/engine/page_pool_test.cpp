#include "engine/page_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "util/error.h"

namespace farskip::engine {
namespace {

using Tokens = std::vector<int64_t>;

TEST(PagePool, SharesWhatBeginsAlikeButLeavesAToken) {
  PagePool pool(4, 2, /*reuse=*/true);
  const Tokens tokens = {1, 2, 3, 4, 5};
  std::vector<int64_t> first;
  ASSERT_TRUE(pool.take(first, pool.pages_for(5)));
  EXPECT_EQ(pool.used(), 3);
  pool.register_full(first, tokens, 0);
  for (const auto& [prompt, shared] : std::vector<std::pair<Tokens, size_t>>{
           {{1, 2, 3, 4, 5}, 2},
           {{1, 2, 3, 4}, 1},  // its last token is to be computed
           {{1, 2}, 0},
           {{1, 2, 9, 4, 5}, 1},
           {{9, 2, 3, 4, 5}, 0},
           {{3, 4, 5}, 0}}) {  // the same tokens, but not at the beginning
    std::vector<int64_t> pages = pool.share(prompt);
    EXPECT_EQ(pages, Tokens(first.begin(), first.begin() + shared));
    pool.release(pages);
  }
  EXPECT_EQ(pool.used(), 3);
  pool.release(first);
  EXPECT_EQ(pool.used(), 0);
}

TEST(PagePool, TakesAllOrNothingAndEvictsTheEndsOfWhatIsLongestUnused) {
  PagePool pool(4, 1, /*reuse=*/true);
  std::vector<int64_t> old, young, more;
  ASSERT_TRUE(pool.take(old, 2));
  pool.register_full(old, Tokens{1, 2}, 0);
  ASSERT_TRUE(pool.take(young, 2));
  pool.register_full(young, Tokens{3, 4}, 0);
  EXPECT_FALSE(pool.take(more, 1));
  pool.release(old);
  pool.release(young);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_FALSE(pool.take(more, 5));
  EXPECT_TRUE(more.empty());
  ASSERT_TRUE(pool.take(more, 1));
  std::vector<int64_t> found = pool.share(Tokens{1, 2, 0});
  EXPECT_EQ(found.size(), 1u);  // of {1, 2}, 2 had to go
  EXPECT_EQ(pool.share(Tokens{3, 4, 0}).size(), 2u);
  std::vector<int64_t> twice = found;
  pool.release(found);
  EXPECT_THROW(pool.release(twice), Error);
}

TEST(PagePool, WithoutReuseNothingIsShared) {
  PagePool pool(2, 1, /*reuse=*/false);
  std::vector<int64_t> pages;
  ASSERT_TRUE(pool.take(pages, 2));
  pool.register_full(pages, Tokens{1, 2}, 0);
  EXPECT_TRUE(pool.share(Tokens{1, 2, 3}).empty());
}

/// Sequences over two token ids come, grow and go at random, in little memory.
TEST(PagePool, NeverSharesAPageThatHoldsSomethingElse) {
  struct Sequence {
    Tokens tokens;
    std::vector<int64_t> pages;
  };
  for (const uint64_t seed : {1, 2, 3}) {
    std::mt19937_64 random(seed);
    PagePool pool(12, 3, /*reuse=*/true);
    std::vector<Tokens> content(12);  // beginnings up to and with the page
    std::vector<Sequence> running;
    int64_t shared_pages = 0;
    for (int step = 0; step < 20000; ++step) {
      if (random() % 2 == 0 || running.empty()) {
        Sequence sequence;
        for (size_t n = 1 + random() % 14; n-- > 0;)
          sequence.tokens.push_back(static_cast<int64_t>(random() % 2));
        sequence.pages = pool.share(sequence.tokens);
        const int64_t shared = std::ssize(sequence.pages);
        shared_pages += shared;
        for (int64_t i = 0; i < shared; ++i)
          ASSERT_EQ(content[sequence.pages[i]],
                    Tokens(sequence.tokens.begin(), sequence.tokens.begin() + 3 * (i + 1)));
        if (!pool.take(sequence.pages, pool.pages_for(std::ssize(sequence.tokens)) - shared)) {
          pool.release(sequence.pages);
          continue;
        }
        for (int64_t i = shared; i < std::ssize(sequence.pages); ++i) {
          const auto end = std::min<size_t>(sequence.tokens.size(), 3 * (i + 1));
          content[sequence.pages[i]] = {sequence.tokens.begin(), sequence.tokens.begin() + end};
        }
        pool.register_full(sequence.pages, sequence.tokens, shared);
        running.push_back(std::move(sequence));
      } else {
        const size_t at = random() % running.size();
        pool.release(running[at].pages);
        running.erase(running.begin() + static_cast<int64_t>(at));
      }
      std::set<int64_t> held;
      for (const Sequence& one : running) held.insert(one.pages.begin(), one.pages.end());
      ASSERT_EQ(pool.used(), std::ssize(held));
    }
    EXPECT_GT(shared_pages, 1000);
  }
}

}  // namespace
}  // namespace farskip::engine
