#include "comm/direct.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <deque>
#include <exception>
#include <mutex>

#include "comm/sockets.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

/// Goes ahead of every message. Ranks of another byte order would disagree before.
struct Header {
  uint32_t number = 0;  ///< of the message on its connection
  uint32_t bytes = 0;
};

/// One message on its way through one socket.
struct Transfer {
  Header header;
  at::Tensor tensor;
  size_t moved = 0;  ///< bytes, header first
  bool done = false;
  Clock::time_point arrival;

  size_t total() const { return sizeof header + tensor.nbytes(); }
  /// What is left.
  std::array<iovec, 2> rest() {
    const auto piece = [](void* data, size_t size, size_t from) {
      from = std::min(from, size);
      return iovec{static_cast<char*>(data) + from, size - from};
    };
    return {piece(&header, sizeof header, moved), piece(tensor.mutable_data_ptr(), tensor.nbytes(),
                                                        moved - std::min(moved, sizeof header))};
  }
};
using Transfers = std::deque<std::shared_ptr<Transfer>>;

/// When the kernel got the last of the bytes that a recvmsg gave, on the steady clock.
Clock::time_point arrival_of(const msghdr& message) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec then, now;
    std::memcpy(&then, CMSG_DATA(c), sizeof then);
    clock_gettime(CLOCK_REALTIME, &now);
    return Clock::now() - std::chrono::seconds(now.tv_sec - then.tv_sec) -
           std::chrono::nanoseconds(now.tv_nsec - then.tv_nsec);
  }
  return Clock::now();
}

struct Peer {
  int64_t rank = 0;
  util::UniqueFd socket;
  uint32_t sent = 0, expected = 0;  ///< messages so far
  Transfers out, in;

  std::string name() const { return util::concat("rank ", rank); }

  /// Moves what can be moved at once.
  void pump(bool receive) {
    while (!out.empty() && push(*out.front())) out.pop_front();
    while (receive && !in.empty() && pull(*in.front())) in.pop_front();
  }

 private:
  [[noreturn]] void lost(const char* doing) const {
    throw Error(util::concat(doing, " ", name(), ": ", std::strerror(errno)));
  }
  /// True if the transfer is through.
  bool push(Transfer& transfer) {
    auto rest = transfer.rest();
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    const ssize_t moved = sendmsg(socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (moved < 0 && errno != EAGAIN && errno != EINTR) lost("sending to");
    return move(transfer, moved);
  }
  bool pull(Transfer& transfer) {
    auto rest = transfer.rest();
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const bool begun = transfer.moved >= sizeof(Header);
    const ssize_t moved = recvmsg(socket.get(), &message, MSG_DONTWAIT);
    if (moved == 0) throw Error(util::concat("connection closed by ", name()));
    if (moved < 0 && errno != EAGAIN && errno != EINTR) lost("receiving from");
    const bool done = move(transfer, moved);
    if (!begun && transfer.moved >= sizeof(Header)) check(transfer.header);
    if (done) transfer.arrival = arrival_of(message);
    return done;
  }
  void check(const Header& found) {
    const auto bytes = static_cast<uint32_t>(in.front()->tensor.nbytes());
    if (found.number != expected || found.bytes != bytes)
      throw Error(util::concat("found message ", found.number, " of ", found.bytes, " bytes from ",
                               name(), ", expected message ", expected, " of ", bytes));
    ++expected;
  }
  static bool move(Transfer& transfer, ssize_t moved) {
    if (moved > 0) transfer.moved += static_cast<size_t>(moved);
    return transfer.done = transfer.moved == transfer.total();
  }
};

}  // namespace

struct DirectLinks::State {
  std::mutex mutex;
  std::vector<Peer> peers;  ///< by rank; the own place is empty
  std::chrono::milliseconds timeout;
  std::exception_ptr failure;  ///< after which nothing goes on
  /// Whether a thread sleeps until there is something to receive: nobody else takes it then, or
  /// that thread would sleep on.
  bool polled = false;
  std::condition_variable woken;  ///< it has slept

  /// Moves what can be moved at once.
  void pump() {
    if (failure) return;
    try {
      for (Peer& peer : peers) peer.pump(/*receive=*/!polled);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  /// Until something may have moved, or for a moment.
  void sleep(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds most) {
    if (polled) {
      woken.wait_for(lock, most);
      return;
    }
    // What another thread launches meanwhile may have to be sent too, so not for long.
    constexpr std::chrono::milliseconds kNap(20);
    std::vector<pollfd> sockets;
    for (const Peer& peer : peers) {
      const int events = (peer.in.empty() ? 0 : POLLIN) | (peer.out.empty() ? 0 : POLLOUT);
      if (events) sockets.push_back({peer.socket.get(), static_cast<short>(events), 0});
    }
    polled = true;
    lock.unlock();
    poll(sockets.data(), sockets.size(), static_cast<int>(std::min(most, kNap).count()));
    lock.lock();
    polled = false;
    pump();
    woken.notify_all();
  }
};

class DirectLinks::Exchange : public Work {
 public:
  Exchange(std::shared_ptr<State> state, at::Tensor output)
      : state_(std::move(state)), output_(std::move(output)) {}

  void launch(const std::vector<Part>& parts) {
    const std::lock_guard lock(state_->mutex);
    for (const Part& part : parts) {
      Peer& peer = state_->peers.at(part.peer);
      if (part.sent.defined()) add(peer.out, part.sent).header.number = peer.sent++;
      if (part.received.defined()) add(peer.in, part.received);
    }
    state_->pump();
  }

  at::Tensor wait() override {
    const auto until = Clock::now() + state_->timeout;
    std::unique_lock lock(state_->mutex);
    while (!settled()) {
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
  Transfer& add(Transfers& queue, const at::Tensor& tensor) {
    auto transfer = std::make_shared<Transfer>();
    transfer->header.bytes = static_cast<uint32_t>(tensor.nbytes());
    transfer->tensor = tensor;
    queue.push_back(transfer);
    transfers_.push_back(transfer);
    return *transfer;
  }

  std::shared_ptr<State> state_;
  at::Tensor output_;
  std::vector<std::shared_ptr<Transfer>> transfers_;
};

DirectLinks::DirectLinks(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name,
                         const std::string& address, int64_t rank, int64_t size,
                         std::chrono::milliseconds timeout)
    : state_(std::make_shared<State>()) {
  state_->timeout = timeout;
  state_->peers.resize(size);
  auto sockets = meet(*store, name, address, rank, size, timeout);
  for (int64_t r = 0; r < size; ++r) {
    state_->peers[r].rank = r;
    state_->peers[r].socket = std::move(sockets[r]);
  }
}

std::unique_ptr<Work> DirectLinks::exchange(const std::vector<Part>& parts, at::Tensor output) {
  auto work = std::make_unique<Exchange>(state_, std::move(output));
  work->launch(parts);
  return work;
}

}  // namespace farskip::comm
