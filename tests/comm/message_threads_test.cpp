// What threads that carry messages inherit, and that the thread that starts them is as before.
#include "comm/message_threads.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

namespace farskip::comm {
namespace {

/// Of the calling thread.
struct Treatment {
  cpu_set_t processors;
  uint64_t slice = 0;  ///< ns

  static Treatment now() {
    Treatment found;
    EXPECT_EQ(sched_getaffinity(0, sizeof found.processors, &found.processors), 0);
    std::array<uint64_t, 6> attributes{};  // struct sched_attr, whose fourth word is the slice
    EXPECT_EQ(syscall(SYS_sched_getattr, 0, attributes.data(), sizeof attributes, 0), 0);
    found.slice = attributes[3];
    return found;
  }
  static Treatment of_new_thread() {
    Treatment found;
    std::thread([&] { found = now(); }).join();
    return found;
  }
  bool operator==(const Treatment& other) const {
    return CPU_EQUAL(&processors, &other.processors) && slice == other.slice;
  }
};

TEST(MessageThreads, InheritWhatTheirStarterHasForAWhile) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(getppid(), sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one processor";
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  std::thread([&] {
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // a rank with a single processor
    const Treatment before = Treatment::now();
    for (const auto kind : {MessageThreads::Kind::move, MessageThreads::Kind::write}) {
      {
        const MessageThreads threads(kind);
        const Treatment inherited = Treatment::of_new_thread();
        EXPECT_EQ(CPU_ISSET(first, &inherited.processors) != 0, kind == MessageThreads::Kind::move);
        EXPECT_LE(inherited.slice, before.slice);
      }
      EXPECT_TRUE(Treatment::now() == before);
    }
  }).join();
}

TEST(MessageThreads, StayWhereARankHasSeveralProcessors) {
  const Treatment before = Treatment::now();
  if (CPU_COUNT(&before.processors) < 2) GTEST_SKIP() << "one processor";
  const MessageThreads threads(MessageThreads::Kind::write);
  const Treatment inherited = Treatment::of_new_thread();
  EXPECT_TRUE(CPU_EQUAL(&inherited.processors, &before.processors));
}

}  // namespace
}  // namespace farskip::comm
