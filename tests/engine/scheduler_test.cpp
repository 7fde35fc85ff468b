#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace farskip::engine {
namespace {

std::unique_ptr<Sequence> sequence(uint64_t id, int64_t length, int64_t new_tokens = 8) {
  Request request;
  request.prompt.assign(length, static_cast<int64_t>(id));
  request.max_new_tokens = new_tokens;
  return std::make_unique<Sequence>(id, std::move(request));
}

using Counts = std::map<uint64_t, int64_t>;

/// Plays a pass: what every sequence had computed. Whoever has all gets another token.
Counts pass(Scheduler& scheduler) {
  Counts counts;
  for (const Work& work : scheduler.next()) {
    scheduler.done(work);
    counts[work.sequence->id] += work.count;
    if (work.sequence->remaining() == 0) work.sequence->tokens.push_back(1000);
  }
  return counts;
}

TEST(Scheduler, GivesDecodingATokenEachAndPromptsTheRest) {
  PagePool pool(100, 4, true);
  Scheduler scheduler(pool, {.max_sequences = 3, .max_batch_tokens = 8});
  scheduler.add(sequence(1, 3));
  scheduler.add(sequence(2, 20));
  scheduler.add(sequence(3, 2));
  scheduler.add(sequence(4, 2));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 3}, {2, 5}}));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 1}, {2, 7}}));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 1}, {2, 7}}));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 1}, {2, 1}, {3, 2}}));  // 3 at once, and no more
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_TRUE(scheduler.remove(2));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 1}, {3, 1}, {4, 2}}));
  EXPECT_FALSE(scheduler.remove(2));
}

TEST(Scheduler, LetsInWhatFitsAndGivesUpWhatCameLast) {
  PagePool pool(4, 2, false);
  Scheduler scheduler(pool, {.max_sequences = 8, .max_batch_tokens = 16});
  scheduler.add(sequence(1, 2));
  scheduler.add(sequence(2, 4));
  scheduler.add(sequence(3, 4));
  EXPECT_EQ(pass(scheduler), (Counts{{1, 2}, {2, 4}}));  // for 3 there is one page, not two
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_EQ(pass(scheduler), (Counts{{1, 1}}));  // 1 takes the last page, 2 is given up
  EXPECT_EQ(scheduler.preempted(), 1);
  EXPECT_EQ(pool.used(), 2);
  EXPECT_TRUE(scheduler.remove(1));
  EXPECT_EQ(pass(scheduler), (Counts{{2, 5}}));  // ahead of 3, its new token too
}

/// Sequences come at random into little memory; all come through, and nobody waits for ever.
TEST(Scheduler, ComputesEveryTokenOfEverySequence) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    std::mt19937_64 random(seed);
    PagePool pool(16, 4, seed % 2 == 0);
    Scheduler scheduler(pool, {.max_sequences = 6, .max_batch_tokens = 12});
    uint64_t added = 0, ended = 0;
    int64_t preempted = 0;
    for (int step = 0; ended < 200; ++step) {
      ASSERT_LT(step, 20000);
      if (added < 200 && random() % 2 == 0)
        scheduler.add(sequence(++added, 1 + static_cast<int64_t>(random() % 30),
                               1 + static_cast<int64_t>(random() % 20)));
      const std::vector<Work> works = scheduler.next();
      ASSERT_EQ(works.empty(), scheduler.idle());
      int64_t tokens = 0;
      for (const Work& work : works) {
        tokens += work.count;
        ASSERT_GT(work.count, 0);
        ASSERT_LE(work.count, work.sequence->remaining());
        ASSERT_GE(std::ssize(work.sequence->pages) * 4, work.sequence->computed + work.count);
      }
      ASSERT_LE(tokens, 12);
      ASSERT_LE(pool.used(), 16);
      for (const Work& work : works) {
        Sequence& one = *work.sequence;
        scheduler.done(work);
        if (one.remaining() > 0) continue;
        one.tokens.push_back(static_cast<int64_t>(random() % 3));
        if (one.new_tokens() == one.request.max_new_tokens) {
          ASSERT_TRUE(scheduler.remove(one.id));
          ++ended;
        }
      }
      preempted = scheduler.preempted();
    }
    EXPECT_GT(preempted, 0);
    EXPECT_TRUE(scheduler.idle());
    EXPECT_EQ(pool.used(), 0);
  }
}

}  // namespace
}  // namespace farskip::engine
