// Messages through one connection to another rank, in order, as far as they move without waiting.
#pragma once
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "comm/pending.h"
#include "util/unique_fd.h"

namespace farskip::comm {

/// One message on its way, behind a header that tells a peer that is out of step.
struct Transfer {
  /// Ranks of another byte order would disagree before.
  struct Header {
    uint64_t number = 0;  ///< of the message on its connection
    uint64_t bytes = 0;
  };
  explicit Transfer(const at::Tensor& contiguous);

  Header header;
  at::Tensor tensor;
  uint64_t moved = 0;  ///< bytes, header first
  bool done = false;
  Clock::time_point arrival;  ///< of a received one, when the kernel had all of it

  uint64_t left() const { return sizeof header + tensor.nbytes() - moved; }
  bool begun() const { return moved >= sizeof header; }

 private:
  friend class MessageStream;
  std::array<iovec, 2> rest();
};

/// Both directions of a connection. Nothing here blocks.
class MessageStream {
 public:
  MessageStream() = default;
  MessageStream(int64_t peer, util::UniqueFd socket) : peer_(peer), socket_(std::move(socket)) {}

  /// Behind what is queued already.
  void send(std::shared_ptr<Transfer> transfer);
  void receive(std::shared_ptr<Transfer> transfer);
  /// Moves what can be moved at once. Error for a peer that is gone or out of step.
  void pump(bool sends);

  bool sending() const { return !out_.empty(); }
  bool receiving() const { return !in_.empty(); }
  /// Bytes that are still to come of what is queued.
  uint64_t awaited() const { return awaited_; }
  /// Bytes so far, both ways.
  uint64_t moved() const { return moved_; }
  int socket() const { return socket_.get(); }
  /// From now on, the socket counts as readable when so much is there that waking somebody is worth
  /// it, with packets of which each would: of the message at hand, or of all that are awaited.
  void wake_seldom(bool by_message);

 private:
  void push(Transfer& transfer);
  void pull(Transfer& transfer);
  uint64_t advance(Transfer& transfer, ssize_t moved);
  [[noreturn]] void lost(const char* doing) const;
  void check(const Transfer& transfer);

  int64_t peer_ = 0;
  util::UniqueFd socket_;
  uint64_t sent_ = 0, expected_ = 0;  ///< messages so far
  std::deque<std::shared_ptr<Transfer>> out_, in_;
  uint64_t awaited_ = 0, moved_ = 0;
  int low_water_ = 1;  ///< bytes, as the kernel has it
};

}  // namespace farskip::comm
