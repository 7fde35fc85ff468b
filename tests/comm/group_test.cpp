#include "comm/rendezvous.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace farskip::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Rows that rank `from` sends to rank `to`: uneven, some none.
int64_t rows_between(int64_t from, int64_t to) {
  return (3 * from + 5 * to) % 4;
}

/// Every collective of one rank against what it must give.
void exchange(const Group& group, at::ScalarType dtype) {
  const int64_t rank = group.rank(), size = group.size();
  std::vector<int64_t> sent, received;
  std::vector<at::Tensor> out, in;
  for (int64_t r = 0; r < size; ++r) {
    sent.push_back(rows_between(rank, r));
    received.push_back(rows_between(r, rank));
    out.push_back(at::full({sent.back(), 5}, 10 * rank + r, dtype));
    in.push_back(at::full({received.back(), 5}, 10 * r + rank, dtype));
  }
  // Launched together, awaited in another order.
  Pending rows = group.all_to_all("rows", at::cat(out), sent, received);
  const at::Tensor own = at::full({2, 3}, rank + 1, dtype);
  Pending sum = group.all_reduce("sum", own);
  Pending all = group.all_gather("all", own);
  Pending last = group.broadcast("last", own, size - 1);
  EXPECT_TRUE(last.wait().equal(at::full({2, 3}, size, dtype)));
  const at::Tensor gathered = all.wait();
  for (int64_t r = 0; r < size; ++r)
    EXPECT_TRUE(gathered.narrow(0, 2 * r, 2).equal(at::full({2, 3}, r + 1, dtype)));
  EXPECT_TRUE(sum.wait().equal(at::full({2, 3}, size * (size + 1) / 2, dtype)));
  EXPECT_TRUE(own.equal(at::full({2, 3}, rank + 1, dtype)));
  EXPECT_TRUE(rows.wait().equal(at::cat(in)));
  group.barrier("end");
}

TEST(Group, ExchangesBetweenThreads) {
  for (const int64_t size : {1, 2, 3, 4})
    Rendezvous::threads(size, [](Rendezvous& rendezvous) {
      const Group group = rendezvous.all();
      for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) exchange(group, dtype);
    });
}

TEST(Group, SplitsByColor) {
  Rendezvous::threads(4, [](Rendezvous& rendezvous) {
    const Group rows = rendezvous.split(rendezvous.rank() / 2);
    const Group columns = rendezvous.split(rendezvous.rank() % 2);
    const Group one = rendezvous.split(rendezvous.rank());
    EXPECT_EQ(rows.rank(), rendezvous.rank() % 2);
    EXPECT_EQ(columns.rank(), rendezvous.rank() / 2);
    EXPECT_EQ(one.size(), 1);
    for (const Group& group : {rows, columns, one}) exchange(group, at::kFloat);
    const at::Tensor sum = columns.all_reduce("ranks", at::full({1}, rendezvous.rank())).wait();
    EXPECT_EQ(sum.item<int64_t>(), 2 + 2 * (rendezvous.rank() % 2));
  });
}

TEST(Group, RefusesSplitsThatDoNotFit) {
  const Group alone;
  const at::Tensor x = at::zeros({3, 2});
  EXPECT_THROW(alone.all_to_all("x", x, {2}, {3}), Error);
  EXPECT_THROW(alone.all_to_all("x", x, {3, 0}, {3, 0}), Error);
  EXPECT_TRUE(alone.all_to_all("x", x, {3}, {3}).wait().is_same(x));
}

TEST(Group, NamesTheMessageThatAnotherRankNeverSends) {
  const auto start = std::chrono::steady_clock::now();
  try {
    Rendezvous::threads(
        2,
        [](Rendezvous& rendezvous) {
          const Group group = rendezvous.all();
          if (rendezvous.rank() == 0) {
            group.all_reduce("layer 3 combine", at::ones({4})).wait();
          } else {
            std::this_thread::sleep_for(seconds(2));
          }
        },
        milliseconds(1000));
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("rank 0 of 2: layer 3 combine: "));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(20));
}

/// This program again as one rank of several, with `role` in its environment.
pid_t start_rank(int64_t rank, int64_t size, const std::string& port, const char* role) {
  const pid_t child = fork();
  if (child != 0) return child;
  setenv("RANK", std::to_string(rank).c_str(), 1);
  setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", port.c_str(), 1);
  setenv("FARSKIP_TEST_ROLE", role, 1);
  unsetenv("GTEST_OUTPUT");
  execl("/proc/self/exe", "test_comm", "--gtest_brief=1", "--gtest_filter=RankProcess.*",
        "--gtest_also_run_disabled_tests", nullptr);
  _exit(127);
}

int exit_code(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string any_port() {
  return std::to_string(20000 + getpid() % 20000);
}

TEST(GroupProcesses, ExchangeAndNoticeADeadRank) {
  for (const char* role : {"exchange", "dies"}) {
    std::vector<pid_t> ranks;
    for (int64_t rank = 0; rank < 2; ++rank) ranks.push_back(start_rank(rank, 2, any_port(), role));
    EXPECT_EQ(exit_code(ranks[0]), 0) << role;
    EXPECT_EQ(exit_code(ranks[1]), std::string(role) == "dies" ? 7 : 0) << role;
  }
}

/// What such a process does.
TEST(RankProcess, DISABLED_PlaysItsRole) {
  const char* role = std::getenv("FARSKIP_TEST_ROLE");
  ASSERT_TRUE(role) << "only GroupProcesses runs this";
  Rendezvous rendezvous(launch_environment(), seconds(60));
  const Group group = rendezvous.all();
  exchange(group, at::kFloat);
  if (std::string(role) != "dies") return;
  if (group.rank() == 1) _exit(7);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(group.all_reduce("gradients", at::ones({1000})).wait(), CommError);
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(10));
}

}  // namespace
}  // namespace farskip::comm
