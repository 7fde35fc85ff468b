#include "comm/local_ranks.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>

#include "comm/launch_environment.h"
#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::comm {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& what) {
  throw Error(util::concat("launch: ", what, ": ", std::strerror(errno)));
}

/// A port that nobody listens on just now.
uint16_t free_port() {
  const util::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (socket.get() < 0 || bind(socket.get(), generic, length) != 0 ||
      getsockname(socket.get(), generic, &length) != 0)
    fail("no free port on 127.0.0.1");
  return ntohs(address.sin_port);
}

struct Pipe {
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    read = util::UniqueFd(ends[0]);
    write = util::UniqueFd(ends[1]);
  }
  util::UniqueFd read, write;
};

/// What one rank prints on one of its streams, passed on to stderr line by line.
struct Stream {
  util::UniqueFd from;
  std::string prefix;
  std::string line;

  void write_line() {
    if (line.empty()) return;
    const std::string text = prefix + line;
    for (size_t done = 0; done < text.size();) {
      const ssize_t count = write(STDERR_FILENO, text.data() + done, text.size() - done);
      if (count < 0 && errno != EINTR) break;  // our own output is gone: the ranks go on
      if (count > 0) done += static_cast<size_t>(count);
    }
    line.clear();
  }
  /// False at the end of the stream. A carriage return ends a line too: progress comes through.
  bool pass_on() {
    char buffer[4096];
    const ssize_t count = read(from.get(), buffer, sizeof buffer);
    if (count < 0) return errno == EINTR || errno == EAGAIN;
    for (ssize_t i = 0; i < count; ++i) {
      line += buffer[i];
      if (buffer[i] == '\n' || buffer[i] == '\r') write_line();
    }
    if (count == 0 && !line.empty()) {
      line += '\n';
      write_line();
    }
    return count > 0;
  }
};

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

/// The signals that this function reads from a descriptor instead; as before afterwards.
class Signals {
 public:
  Signals() {
    const sigset_t set = handled_signals();
    sigprocmask(SIG_BLOCK, &set, &before_);
    fd_ = util::UniqueFd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    if (fd_.get() < 0) fail("signalfd");
  }
  ~Signals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }
  std::optional<int> next() const {
    signalfd_siginfo info;
    if (read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
  }
  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_;
  util::UniqueFd fd_;
};

class Launch {
 public:
  explicit Launch(const LocalRanks& ranks) : ranks_(ranks) {
    const uint16_t port = free_port();
    if (ranks.link) network_.emplace(ranks.count, *ranks.link);
    try {
      for (int64_t rank = 0; rank < ranks.count; ++rank) start(rank, port);
    } catch (...) {
      send(SIGKILL);
      for (const pid_t child : children_) waitpid(child, nullptr, 0);
      throw;
    }
  }

  int run() {
    while (running() || !streams_.empty()) {
      std::vector<pollfd> polled{{signals_.fd(), POLLIN, 0}};
      for (const Stream& stream : streams_) polled.push_back({stream.from.get(), POLLIN, 0});
      // Grandchildren may hold a stream open after the last rank: do not wait for them.
      const int ready = poll(polled.data(), polled.size(), running() ? 100 : 0);
      if (ready < 0 && errno != EINTR) fail("poll");
      if (ready == 0 && !running()) break;
      for (size_t i = streams_.size(); i-- > 0;)
        if (polled[i + 1].revents != 0 && !streams_[i].pass_on())
          streams_.erase(streams_.begin() + static_cast<std::ptrdiff_t>(i));
      while (const auto signal = signals_.next())
        if (*signal != SIGCHLD) forward(*signal);
      reap();
      enforce();
    }
    return first_failure_.value_or(0);
  }

 private:
  void start(int64_t rank, uint16_t port) {
    Pipe out, err;
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);  // it is gone already
      // Results are rank 0's: it has our stdout itself.
      if (rank > 0) dup2(out.write.get(), STDOUT_FILENO);
      dup2(err.write.get(), STDERR_FILENO);
      sigprocmask(SIG_SETMASK, &signals_.before(), nullptr);
      become(rank, port);
    }
    children_.push_back(child);
    const std::string prefix = util::concat("[", rank, "] ");
    streams_.push_back({std::move(out.read), prefix, {}});
    streams_.push_back({std::move(err.read), prefix, {}});
  }

  [[noreturn]] void become(int64_t rank, uint16_t port) const {
    const auto set = [](const char* name, int64_t value, bool overwrite = true) {
      setenv(name, std::to_string(value).c_str(), overwrite);
    };
    clear_launch_environment();  // whoever started us has not started the ranks
    set("RANK", rank);
    set("LOCAL_RANK", rank);
    set("WORLD_SIZE", ranks_.count);
    set("LOCAL_WORLD_SIZE", ranks_.count);
    setenv("MASTER_ADDR", network_ ? EmulatedNetwork::kFirstAddress : "127.0.0.1", 1);
    set("MASTER_PORT", port);
    set("OMP_NUM_THREADS", std::max<int64_t>(1, std::thread::hardware_concurrency() / ranks_.count),
        false);
    if (ranks_.bind) bind(rank);
    if (network_) {
      if (!network_->enter(rank)) give_up("network namespace");
      setenv("GLOO_SOCKET_IFNAME", EmulatedNetwork::kInterface, 1);
      setenv("FARSKIP_LINK", ranks_.link->text.c_str(), 1);
      // c10d warns of every peer whose name it cannot look up; nobody serves names in there.
      setenv("TORCH_CPP_LOG_LEVEL", "ERROR", 0);
    }
    std::vector<char*> arguments;
    for (const std::string& word : ranks_.command)
      arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments.front(), arguments.data());
    give_up(arguments.front());
  }

  /// To a part of the processors that this process may use, which follow one another.
  void bind(int64_t rank) const {
    cpu_set_t ours, own;
    CPU_ZERO(&own);
    if (sched_getaffinity(0, sizeof ours, &ours) != 0) return;
    const int64_t each = CPU_COUNT(&ours) / ranks_.count;
    if (each == 0) return;
    int64_t index = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &ours) && index++ / each == rank) CPU_SET(cpu, &own);
    sched_setaffinity(0, sizeof own, &own);
  }

  /// Ends a rank that has not become its command.
  [[noreturn]] static void give_up(const char* what) {
    std::fprintf(stderr, "launch: %s: %s\n", what, std::strerror(errno));
    _exit(127);
  }

  bool running() const { return !children_.empty(); }
  void send(int signal) const {
    for (const pid_t child : children_) kill(child, signal);
  }
  /// The ranks get what we got; whoever asks twice means it.
  void forward(int signal) {
    send(asked_ ? SIGKILL : signal);
    asked_ = true;
    if (!kill_at_) kill_at_ = Clock::now() + ranks_.grace;
  }
  void reap() {
    for (size_t i = children_.size(); i-- > 0;) {
      int status = 0;
      if (waitpid(children_[i], &status, WNOHANG) != children_[i]) continue;
      children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
      const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (code == 0 || first_failure_) continue;
      first_failure_ = code;
      stop_at_ = Clock::now() + ranks_.notice;
    }
  }
  void enforce() {
    const auto now = Clock::now();
    if (stop_at_ && now >= *stop_at_) {
      send(SIGTERM);
      stop_at_.reset();
      if (!kill_at_) kill_at_ = now + ranks_.grace;
    }
    if (kill_at_ && now >= *kill_at_) send(SIGKILL);
  }

  const LocalRanks& ranks_;
  std::optional<EmulatedNetwork> network_;
  Signals signals_;
  std::vector<pid_t> children_;
  std::vector<Stream> streams_;
  std::optional<int> first_failure_;
  std::optional<Clock::time_point> stop_at_, kill_at_;
  bool asked_ = false;
};

}  // namespace

int run_local_ranks(const LocalRanks& ranks) {
  return Launch(ranks).run();
}

}  // namespace farskip::comm
