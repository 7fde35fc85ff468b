// farskip launch --link: a network of its own between the ranks.
#include "comm/emulated_link.h"

#include <ATen/ATen.h>
#include <c10/util/Logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "comm/local_ranks.h"
#include "comm/rendezvous.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(LinkRate, IsSpelledAsTcDoes) {
  for (const auto& [text, rate] : std::vector<std::pair<std::string, int64_t>>{
           {"100kbit", 100'000}, {"500mbit", 500'000'000}, {"2.5Gbit", 2'500'000'000}})
    EXPECT_EQ(link_rate(text).bits_per_second, rate) << text;
  for (const std::string text :
       {"", "fast", "5", "mbit", "0mbit", "-5mbit", "1e3mbit", "500 mbit", "500mbits", "500mbps",
        "nanmbit", "infgbit", "1kbit", "11gbit", "1e999gbit"}) {
    try {
      link_rate(text);
      ADD_FAILURE() << text << " was accepted";
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("--link: found " + text + ", expected a rate from"));
    }
  }
}

bool namespaces_permitted() {
  const pid_t child = fork();
  if (child == 0) _exit(unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0;
}

class EmulatedNetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!namespaces_permitted()) GTEST_SKIP() << "network namespaces are not permitted here";
  }
};

/// A launch in a process of its own, which it moves into another namespace.
pid_t start(int64_t ranks, const std::string& link, const std::vector<std::string>& command) {
  const pid_t child = fork();
  if (child != 0) return child;
  try {
    LocalRanks launch;
    launch.count = ranks;
    launch.command = command;
    launch.link = link_rate(link);
    _exit(run_local_ranks(launch));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    _exit(2);
  }
}

int exit_status(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Names of the interfaces of this process's network namespace.
std::multiset<std::string> interfaces() {
  std::multiset<std::string> names;
  struct if_nameindex* found = if_nameindex();
  for (auto* one = found; one && one->if_index; ++one) names.insert(one->if_name);
  if_freenameindex(found);
  return names;
}

TEST_F(EmulatedNetworkTest, CarriesMessagesNoFasterThanItsRate) {
  setenv("FARSKIP_TEST_LINK", "50mbit", 1);
  for (const int64_t ranks : {2, 3})
    EXPECT_EQ(
        exit_status(start(ranks, "50mbit",
                          {"/proc/self/exe", "--gtest_brief=1", "--gtest_filter=LinkedRank.*",
                           "--gtest_also_run_disabled_tests", "--gtest_output=json:/dev/null"})),
        0);
  unsetenv("FARSKIP_TEST_LINK");
}

/// What such a rank does.
TEST(LinkedRank, DISABLED_Exchanges) {
  const char* link = std::getenv("FARSKIP_TEST_LINK");
  ASSERT_TRUE(link) << "only EmulatedNetworkTest runs this";
  c10::initLogging();  // heeds what the launch has set
  EXPECT_STREQ(std::getenv("FARSKIP_LINK"), link);
  EXPECT_THAT(interfaces(), testing::UnorderedElementsAre("lo", "link0"));  // nothing leads out
  Rendezvous rendezvous(launch_environment());
  const Group group = rendezvous.all();
  const int64_t size = group.size(), part = (1 << 20) / (size - 1);
  std::vector<int64_t> rows(static_cast<size_t>(size), part);
  rows[static_cast<size_t>(group.rank())] = 0;
  group.barrier("before");
  const auto start = std::chrono::steady_clock::now();
  const at::Tensor sent = at::full({part * (size - 1)}, group.rank(), at::kByte);
  const at::Tensor got = group.all_to_all("rows", sent, rows, rows).wait();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  for (int64_t r = 0, from = 0; r < size; ++r) {
    if (r == group.rank()) continue;
    EXPECT_TRUE(got.narrow(0, from, part).eq(r).all().item<bool>());
    from += part;
  }
  constexpr double kBucket = 12e3;  // bytes that pass at once: what the link takes 2 ms for
  EXPECT_GE(seconds.count(), (static_cast<double>(got.numel()) - kBucket) * 8 / 50e6);
  group.barrier("after");
}

/// Processes whose network namespace is one of these.
int processes_in(const std::set<std::string>& namespaces) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::error_code gone;
    const fs::path link = fs::read_symlink(entry.path() / "ns/net", gone);
    count += !gone && namespaces.count(link.string());
  }
  return count;
}

TEST_F(EmulatedNetworkTest, IsGoneWithTheLauncherHoweverThatEnds) {
  const auto before = interfaces();
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    const fs::path folder =
        fs::temp_directory_path() / ("farskip_link_" + std::to_string(getpid()));
    fs::create_directory(folder);
    const pid_t launcher =
        start(2, "100mbit",
              {"/bin/sh", "-c",
               "readlink /proc/self/ns/net >" + folder.string() + "/$RANK.part; cd " +
                   folder.string() + "; mv $RANK.part $RANK; exec sleep 600"});
    std::set<std::string> namespaces;
    for (int tries = 0; tries < 600 && namespaces.size() < 2; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      for (const std::string rank : {"0", "1"})
        if (std::string line; std::getline(std::ifstream(folder / rank), line))
          namespaces.insert(line);
    }
    fs::remove_all(folder);
    ASSERT_EQ(namespaces.size(), 2u) << "each rank has one";
    EXPECT_EQ(namespaces.count(fs::read_symlink("/proc/self/ns/net").string()), 0u);
    EXPECT_EQ(processes_in(namespaces), 2);
    namespaces.insert(fs::read_symlink("/proc/" + std::to_string(launcher) + "/ns/net").string());
    EXPECT_EQ(namespaces.size(), 3u) << "the switch has one";
    kill(launcher, signal);
    EXPECT_EQ(exit_status(launcher), 128 + signal);
    for (int tries = 0; tries < 200 && processes_in(namespaces) > 0; ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(processes_in(namespaces), 0) << strsignal(signal);
    EXPECT_EQ(interfaces(), before);
  }
}

TEST_F(EmulatedNetworkTest, RefusesMoreRanksThanItHasAddresses) {
  EXPECT_THROW(EmulatedNetwork(255, link_rate("1gbit")), InputError);
}

}  // namespace
}  // namespace farskip::comm
