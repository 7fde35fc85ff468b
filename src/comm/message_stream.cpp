#include "comm/message_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "util/error.h"

namespace farskip::comm {
namespace {

/// Half of what a socket holds where nobody has raised the kernel's limits.
constexpr uint64_t kLowWater = 128 << 10;

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

}  // namespace

Transfer::Transfer(const at::Tensor& contiguous) : tensor(contiguous) {
  header.bytes = tensor.nbytes();
}

std::array<iovec, 2> Transfer::rest() {
  const auto piece = [](void* data, uint64_t size, uint64_t from) {
    from = std::min(from, size);
    return iovec{static_cast<char*>(data) + from, size - from};
  };
  return {piece(&header, sizeof header, moved), piece(tensor.mutable_data_ptr(), tensor.nbytes(),
                                                      moved - std::min(moved, sizeof header))};
}

/// `moved`: as a system call says, -1 where nothing could be moved. -> bytes
uint64_t MessageStream::advance(Transfer& transfer, ssize_t moved) {
  const auto bytes = static_cast<uint64_t>(std::max<ssize_t>(moved, 0));
  transfer.moved += bytes;
  transfer.done = transfer.left() == 0;
  moved_ += bytes;
  return bytes;
}

void MessageStream::send(std::shared_ptr<Transfer> transfer) {
  transfer->header.number = sent_++;
  out_.push_back(std::move(transfer));
}

void MessageStream::receive(std::shared_ptr<Transfer> transfer) {
  awaited_ += transfer->left();
  in_.push_back(std::move(transfer));
}

void MessageStream::pump(bool sends) {
  const auto move_all = [](auto& queue, const auto& move) {
    for (; !queue.empty(); queue.pop_front()) {
      move(*queue.front());
      if (!queue.front()->done) return;
    }
  };
  if (sends) move_all(out_, [&](Transfer& transfer) { push(transfer); });
  move_all(in_, [&](Transfer& transfer) { pull(transfer); });
}

void MessageStream::push(Transfer& transfer) {
  auto rest = transfer.rest();
  msghdr message{};
  message.msg_iov = rest.data();
  message.msg_iovlen = rest.size();
  const ssize_t moved = sendmsg(socket(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (moved < 0 && errno != EAGAIN && errno != EINTR) lost("sending to");
  advance(transfer, moved);
}

void MessageStream::pull(Transfer& transfer) {
  auto rest = transfer.rest();
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
  msghdr message{};
  message.msg_iov = rest.data();
  message.msg_iovlen = rest.size();
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const bool begun = transfer.begun();
  const ssize_t moved = recvmsg(socket(), &message, MSG_DONTWAIT);
  if (moved == 0) throw Error(util::concat("connection closed by rank ", peer_));
  if (moved < 0 && errno != EAGAIN && errno != EINTR) lost("receiving from");
  awaited_ -= advance(transfer, moved);
  if (!begun && transfer.begun()) check(transfer);
  if (transfer.done) transfer.arrival = arrival_of(message);
}

void MessageStream::check(const Transfer& transfer) {
  const Transfer::Header& found = transfer.header;
  const uint64_t bytes = transfer.tensor.nbytes();
  if (found.number != expected_ || found.bytes != bytes)
    throw Error(util::concat("found message ", found.number, " of ", found.bytes,
                             " bytes from rank ", peer_, ", expected message ", expected_, " of ",
                             bytes));
  ++expected_;
}

void MessageStream::lost(const char* doing) const {
  throw Error(util::concat(doing, " rank ", peer_, ": ", std::strerror(errno)));
}

void MessageStream::wake_seldom(bool by_message) {
  if (in_.empty()) return;
  const Transfer& next = *in_.front();
  // Of one that has not begun any byte: it may be another than the one that is awaited.
  const auto wanted =
      static_cast<int>(next.begun() ? std::min(by_message ? next.left() : awaited_, kLowWater) : 1);
  if (wanted == low_water_) return;
  if (setsockopt(socket(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof wanted) == 0)
    low_water_ = wanted;
}

}  // namespace farskip::comm
