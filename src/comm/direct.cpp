#include "comm/direct.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "comm/message_stream.h"
#include "comm/message_threads.h"
#include "comm/sockets.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

/// What is awaited of one rank is left to the kernel up to so many bytes: several messages of a
/// decode step. The kernel has room for more (sockets.cpp), and a thread that takes them away costs
/// more than it gains.
constexpr uint64_t kLeftToKernel = 128 << 10;
/// What the kernel is asked to hold of what is sent in the background: little, because it can't be
/// taken back when something urgent comes.
constexpr int kBackgroundBuffer = 64 << 10;
/// After which links in the background look again whether others are busy.
constexpr std::chrono::milliseconds kHeld(1);

util::UniqueFd new_bell() {
  util::UniqueFd made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (made.get() < 0) throw Error(util::concat("eventfd: ", std::strerror(errno)));
  return made;
}

}  // namespace

struct DirectLinks::State {
  std::mutex mutex;
  std::vector<MessageStream> peers;  ///< by rank; the own place is empty
  std::chrono::milliseconds timeout;
  Precedence precedence;
  bool busy = false;           ///< counted among the urgent
  std::exception_ptr failure;  ///< after which nothing goes on

  /// Whether a thread, the poller, sleeps until there is something to move, and what it listens for
  /// at every peer's socket.
  bool polled = false;
  std::vector<short> listened;
  util::UniqueFd bell = new_bell();  ///< wakes the poller
  int waiting = 0;                   ///< threads that can't go on without a message
  std::condition_variable woken;     ///< the poller was
  std::thread mover;                 ///< polls while needs_mover(), started when that first is so
  std::condition_variable needed;    ///< the mover is, or it is to end
  bool stopped = false;

  /// Moves what can be moved at once, and wakes the poller if that was what it sleeps for.
  void pump() {
    if (failure) return;
    const uint64_t before = moved();
    try {
      for (MessageStream& peer : peers) peer.pump(!held());
    } catch (...) {
      failure = std::current_exception();
    }
    count_busy(needs_mover());
    if (waiting > 0 && (failure || moved() != before)) ring();
  }
  /// Whether others go first.
  bool held() const {
    return precedence.urgency == Urgency::background && precedence.urgent && *precedence.urgent > 0;
  }
  void count_busy(bool now) {
    if (now == std::exchange(busy, now) || !precedence.urgent) return;
    if (precedence.urgency == Urgency::now) *precedence.urgent += now ? 1 : -1;
  }
  /// Whether there is more than the kernel can be left alone with.
  bool needs_mover() const {
    return !failure && std::any_of(peers.begin(), peers.end(), [](const MessageStream& peer) {
      return peer.sending() || peer.awaited() > kLeftToKernel;
    });
  }
  /// After a launch.
  void call_mover() {
    if (!needs_mover()) return;
    if (!mover.joinable()) {
      const MessageThreads threads(MessageThreads::Kind::move);
      mover = std::thread([this] { move(); });
    }
    needed.notify_one();
  }
  /// Bytes so far, of all messages.
  uint64_t moved() const {
    return std::accumulate(
        peers.begin(), peers.end(), uint64_t{0},
        [](uint64_t sum, const MessageStream& peer) { return sum + peer.moved(); });
  }
  void ring() const {
    if (polled) eventfd_write(bell.get(), 1);
  }
  /// Whether the poller listens for all that there is to move, and now, not when others are done.
  bool listens() const {
    for (size_t r = 0; r < peers.size(); ++r)
      if (events(peers[r], /*sends=*/true) & ~listened[r]) return false;
    return true;
  }
  static short events(const MessageStream& peer, bool sends) {
    return static_cast<short>((peer.receiving() ? POLLIN : 0) |
                              (sends && peer.sending() ? POLLOUT : 0));
  }
  /// Until something may have moved, or for a while.
  void sleep(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds most) {
    if (polled) {
      woken.wait_for(lock, most);
      return;
    }
    std::vector<pollfd> polls{{bell.get(), POLLIN, 0}};
    listened.clear();
    const bool sends = !held();
    for (MessageStream& peer : peers) {
      peer.wake_seldom(/*by_message=*/waiting > 0);
      if (peer.sending() && !sends) most = std::min(most, kHeld);
      const short wanted = listened.emplace_back(events(peer, sends));
      if (wanted) polls.push_back({peer.socket(), wanted, 0});
    }
    polled = true;
    lock.unlock();
    poll(polls.data(), polls.size(), static_cast<int>(most.count()));
    lock.lock();
    polled = false;
    eventfd_t rung = 0;
    eventfd_read(bell.get(), &rung);
    pump();
    woken.notify_all();
  }

 private:
  /// The mover's life.
  void move() {
    std::unique_lock lock(mutex);
    while (!stopped) {
      if (needs_mover())
        sleep(lock, timeout);
      else
        needed.wait(lock);
    }
  }
};

class DirectLinks::Exchange : public Work {
  /// Counts a thread among those that wait, if it does, and tells the poller.
  class Waiting {
   public:
    Waiting(State& state, bool waits) : state_(state), waits_(waits) {
      state_.waiting += waits_;
      if (waits_) state_.ring();
    }
    ~Waiting() { state_.waiting -= waits_; }

   private:
    State& state_;
    bool waits_;
  };

 public:
  Exchange(std::shared_ptr<State> state, at::Tensor output)
      : state_(std::move(state)), output_(std::move(output)) {}

  void launch(const std::vector<Part>& parts) {
    const std::lock_guard lock(state_->mutex);
    for (const Part& part : parts) {
      MessageStream& peer = state_->peers.at(part.peer);
      if (part.sent.defined()) peer.send(added(part.sent));
      if (part.received.defined()) peer.receive(added(part.received));
    }
    state_->pump();
    if (state_->polled && !state_->listens()) state_->ring();
    state_->call_mover();
  }

  at::Tensor wait() override {
    std::unique_lock lock(state_->mutex);
    const Waiting waiting(*state_, !settled());
    auto until = Clock::now() + state_->timeout;
    for (uint64_t before = 0; !settled();) {
      if (const uint64_t moved = state_->moved(); moved != std::exchange(before, moved))
        until = Clock::now() + state_->timeout;  // slow is not silent
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
      if (left.count() <= 0)
        throw Error(util::concat("timed out after ", state_->timeout.count(), " ms"));
      state_->sleep(lock, left);
    }
    if (!done()) std::rethrow_exception(state_->failure);
    return output_;
  }
  /// Also of what will never come, which the wait says.
  bool arrived() const override {
    const std::lock_guard lock(state_->mutex);
    return settled();
  }
  Clock::time_point arrival() const override {
    Clock::time_point last;
    for (const auto& transfer : transfers_) last = std::max(last, transfer->arrival);
    return last;
  }

 private:
  bool done() const {
    return std::all_of(transfers_.begin(), transfers_.end(),
                       [](const auto& transfer) { return transfer->done; });
  }
  bool settled() const {
    if (!done()) state_->pump();
    return done() || state_->failure;
  }
  std::shared_ptr<Transfer> added(const at::Tensor& tensor) {
    return transfers_.emplace_back(std::make_shared<Transfer>(tensor));
  }

  std::shared_ptr<State> state_;
  at::Tensor output_;
  std::vector<std::shared_ptr<Transfer>> transfers_;
};

DirectLinks::DirectLinks(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name,
                         const std::string& address, int64_t rank, int64_t size,
                         std::chrono::milliseconds timeout, Precedence precedence)
    : state_(std::make_shared<State>()) {
  state_->timeout = timeout;
  state_->precedence = std::move(precedence);
  const bool background = state_->precedence.urgency == Urgency::background;
  auto sockets = meet(*store, name, address, rank, size, timeout,
                      background ? kBackgroundBuffer : kSocketBuffer);
  for (int64_t r = 0; r < size; ++r) state_->peers.emplace_back(r, std::move(sockets[r]));
}

DirectLinks::~DirectLinks() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
    state_->count_busy(false);
    state_->ring();
    state_->needed.notify_one();
  }
  if (state_->mover.joinable()) state_->mover.join();
}

std::unique_ptr<Work> DirectLinks::exchange(const std::vector<Part>& parts, at::Tensor output) {
  auto work = std::make_unique<Exchange>(state_, std::move(output));
  work->launch(parts);
  return work;
}

}  // namespace farskip::comm
