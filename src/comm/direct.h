// Messages over sockets of our own, which a thread that computes leaves to the kernel, or to one
// thread that does nothing else.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/backend.h"
#include "comm/pending.h"

namespace c10d {
class Store;
}

namespace farskip::comm {

/// How many of a rank's links have messages on their way that keep a thread busy.
using UrgentMessages = std::atomic<int64_t>;

/// Links in the background send nothing while others of the same rank are busy.
struct Precedence {
  std::shared_ptr<UrgentMessages> urgent;  ///< of all links of the rank; null: these are alone
  Urgency urgency = Urgency::now;
};

/// A connection to each other rank. A launch leaves the bytes with the kernel, which carries them
/// while the thread computes; a wait takes what has come. What the kernel can't hold, a thread of
/// the links' moves: it sleeps until much of a message is there to be moved, and asks for no lock
/// that another holds while it writes. (With Gloo, a message of a few KiB costs two changes of
/// threads on either side, and a large one three times the processor's time:
/// docs/benchmarks/2026-11-26-links.md.)
class DirectLinks {
 public:
  /// Meets the others over the store under `name`, each at its own numeric `address`; every rank
  /// calls it. std::exception where they do not come.
  DirectLinks(const c10::intrusive_ptr<c10d::Store>& store, const std::string& name,
              const std::string& address, int64_t rank, int64_t size,
              std::chrono::milliseconds timeout, Precedence precedence = {});
  ~DirectLinks();
  DirectLinks(const DirectLinks&) = delete;
  DirectLinks& operator=(const DirectLinks&) = delete;

  /// What goes to another rank, and what comes from it: contiguous, on the CPU, of the same size in
  /// bytes on both ends; undefined: nothing.
  struct Part {
    int64_t peer = 0;
    at::Tensor sent, received;
  };
  /// Ranks launch in one order; each may wait in any. The work gives `output`, whose parts were
  /// received. std::exception, also from the wait, for a peer that is gone, silent for longer than
  /// the timeout, or sends another message.
  std::unique_ptr<Work> exchange(const std::vector<Part>& parts, at::Tensor output);

 private:
  struct State;
  class Exchange;
  std::shared_ptr<State> state_;
};

}  // namespace farskip::comm
