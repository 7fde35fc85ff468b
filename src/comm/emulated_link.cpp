#include "comm/emulated_link.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "util/error.h"

namespace farskip::comm {
namespace {

constexpr double kLeast = 100e3, kMost = 10e9;  // bits a second
/// Of the network that is set aside for benchmarks (RFC 2544): no machine has its name server in
/// there, which a rank would wait for in vain.
constexpr const char* kAddresses = "198.18.0.";
constexpr int64_t kMostRanks = 254;
/// Bytes of a frame's payload: as clusters have it, and so that the bucket, which counts frame by
/// frame, takes less of the processor time that the ranks compute with.
constexpr int64_t kFrame = 9000;
/// Frames travel in trains, as a card takes them to send at once. Each costs a timer's interrupt,
/// which may leave a virtual machine; and a bucket that has rested lets one train pass at memory
/// speed, so that messages sent one at a time seem shorter by it. Hence the time that one takes.
constexpr double kTrainSeconds = 2e-3;
constexpr int64_t kMostFrames = 7;  ///< of a train: the kernel's limit of 64 KiB
constexpr int64_t kHeaders = 2536;  ///< of a train, and timers that are late

using Words = std::vector<std::string>;

util::UniqueFd own_namespace() {
  util::UniqueFd found(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (found.get() < 0)
    throw Error(util::concat("launch --link: /proc/self/ns/net: ", std::strerror(errno)));
  return found;
}

/// A program of iproute2. An ordinary user's PATH often lacks the directories that tc is in.
std::string program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(util::concat(path ? path : "/usr/bin:/bin", ":/usr/sbin:/sbin"));
  for (std::string folder; std::getline(folders, folder, ':');)
    if (!folder.empty() && access((folder + "/" + name).c_str(), X_OK) == 0)
      return folder + "/" + name;
  throw InputError(util::concat("launch --link: found no program ", name,
                                ", expected iproute2 (apt-get install iproute2)"));
}

/// Runs a program in the network namespace of this process, with `given` as its descriptor 3.
/// `expected` is what its failure says that the machine lacks.
void run(const Words& words, int given, const std::string& expected) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    throw Error(util::concat("launch --link: pipe: ", std::strerror(errno)));
  const util::UniqueFd from(ends[0]);
  util::UniqueFd to(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, to.get(), STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, given, 3);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      posix_spawn(&child, words.front().c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw Error(util::concat("launch --link: ", words.front(), ": ", std::strerror(error)));
  to = {};
  std::string said;
  char buffer[1024];
  for (ssize_t count; (count = read(from.get(), buffer, sizeof buffer)) != 0;)
    if (count > 0)
      said.append(buffer, static_cast<size_t>(count));
    else if (errno != EINTR)
      break;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return;
  std::string command = words.front().substr(words.front().rfind('/') + 1);
  for (size_t i = 1; i < words.size(); ++i) command += " " + words[i];
  util::require(false, "launch --link: " + command, said.substr(0, said.find('\n')), expected);
}

/// A new network namespace for this process. Without root it takes a user namespace, and to be
/// root in there: a program that anybody else starts has no capabilities.
void unshare_network() {
  if (unshare(CLONE_NEWNET) == 0) return;
  const uid_t user = geteuid();
  const gid_t group = getegid();
  util::require(
      unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0, "launch --link",
      util::concat("neither root nor unprivileged user namespaces (", std::strerror(errno), ")"),
      "one of them");
  const auto write = [](const char* file, const std::string& text) {
    std::ofstream out(file);
    out << text << std::flush;
    util::require(out.good(), util::concat("launch --link: ", file), std::strerror(errno),
                  "user namespaces that map their maker");
  };
  write("/proc/self/setgroups", "deny");
  write("/proc/self/uid_map", util::concat("0 ", user, " 1"));
  write("/proc/self/gid_map", util::concat("0 ", group, " 1"));
}

void enter_or_throw(const util::UniqueFd& network) {
  if (setns(network.get(), CLONE_NEWNET) != 0)
    throw Error(util::concat("launch --link: setns: ", std::strerror(errno)));
}

int64_t train_bytes(const LinkRate& rate) {
  const double bytes = static_cast<double>(rate.bits_per_second) / 8 * kTrainSeconds;
  return kFrame * std::clamp<int64_t>(std::llround(bytes / kFrame), 1, kMostFrames);
}

}  // namespace

LinkRate link_rate(const std::string& text) {
  constexpr std::pair<const char*, double> kUnits[] = {{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}};
  double value = 0, scale = 0;
  const char* end = text.data() + text.size();
  const auto [number_end, error] =
      std::from_chars(text.data(), end, value, std::chars_format::fixed);
  for (const auto& [unit, bits] : kUnits)
    if (error == std::errc() && strcasecmp(std::string(number_end, end).c_str(), unit) == 0)
      scale = bits;
  const double rate = value * scale;
  util::require(scale != 0 && rate >= kLeast && rate <= kMost, "--link", text,
                "a rate from 100kbit to 10gbit, such as 500mbit or 2.5gbit");
  return {text, std::llround(rate)};
}

EmulatedNetwork::EmulatedNetwork(int64_t ranks, const LinkRate& rate) {
  util::require(ranks >= 1 && ranks <= kMostRanks, "launch --link", util::concat(ranks, " ranks"),
                util::concat("1 to ", kMostRanks));
  const std::string ip = program("ip"), tc = program("tc");
  const auto make = [&](const Words& words, const util::UniqueFd& other, const char* expected) {
    Words all{ip};
    all.insert(all.end(), words.begin(), words.end());
    run(all, other.get(), expected);
  };
  const int64_t train = train_bytes(rate);
  // A bucket smaller than a train would take it apart. What several ranks send to one must fit into
  // the queue behind it: a fifth of a second, and some trains.
  const int64_t queue = rate.bits_per_second / 8 / 5 + (64 << 10);
  const auto limit = [&](const std::string& device) {
    run({tc, "qdisc", "add", "dev", device, "root", "tbf", "rate",
         util::concat(rate.bits_per_second, "bit"), "burst", util::concat(train + kHeaders, "b"),
         "limit", util::concat(queue, "b")},
        switch_.get(), "a kernel with token buckets (tbf)");
  };
  const auto bring_up = [&](const std::string& device, const Words& more = {}) {
    Words words{
        "link", "set", device, "mtu", util::concat(kFrame), "gso_max_size", util::concat(train),
        "up"};
    words.insert(words.end(), more.begin(), more.end());
    make(words, switch_, "a kernel with veth and bridges");
  };
  const auto cable = [&](const std::string& far_end, const util::UniqueFd& there) {
    make({"link", "add", kInterface, "type", "veth", "peer", "name", far_end, "netns",
          "/proc/self/fd/3"},
         there, "permission, and a kernel with veth");
  };
  const auto port = [](int64_t rank) { return util::concat("port", rank); };
  const bool switched = ranks != 2;
  unshare_network();
  switch_ = own_namespace();
  if (switched) {
    make({"link", "add", "switch", "type", "bridge"}, switch_,
         "permission, and a kernel with bridges");
    make({"link", "set", "switch", "up"}, switch_, "a kernel with bridges");
  }
  for (int64_t rank = 0; rank < ranks; ++rank) {
    unshare_network();
    ranks_.push_back(own_namespace());
    if (switched)
      cable(port(rank), switch_);
    else if (rank == 1)
      cable(kInterface, ranks_[0]);
  }
  for (int64_t rank = 0; rank < ranks; ++rank) {
    enter_or_throw(ranks_[rank]);
    make({"link", "set", "lo", "up"}, switch_, "a loopback interface");
    make({"address", "add", util::concat(kAddresses, rank + 1, "/24"), "dev", kInterface}, switch_,
         "IPv4");
    bring_up(kInterface);
    limit(kInterface);
  }
  enter_or_throw(switch_);
  for (int64_t rank = 0; switched && rank < ranks; ++rank) {
    bring_up(port(rank), {"master", "switch"});
    limit(port(rank));
  }
}

bool EmulatedNetwork::enter(int64_t rank) const {
  return setns(ranks_[static_cast<size_t>(rank)].get(), CLONE_NEWNET) == 0;
}

}  // namespace farskip::comm
