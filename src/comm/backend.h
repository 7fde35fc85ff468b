// What carries the collectives of a group. Only this room sees it; everybody else sees Group.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/pending.h"

namespace farskip::comm {

/// Up to so many bytes to all other ranks together, Gloo's backend takes sockets of our own (see
/// DirectLinks) for gathers, and between two ranks for all-to-alls. At 1 Gbit/s 32 KiB then take
/// two ranks 0.4 ms in place of 0.95, and 64 KiB 0.7 in place of 1.3 (bench/link_check,
/// 2026-11-26). Of larger messages the kernel does not hold several before they are read, so that
/// they would not travel while the rank computes.
constexpr int64_t kSmallBytes = 64 << 10;

/// A launch returns at once; its work keeps the tensors it is given until the wait, which returns
/// `output`. Shapes are the caller's promise (see Group). Errors, at the launch or the wait, are
/// exceptions of any kind: Group gives them their words.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output,
                                           std::vector<int64_t> sent,
                                           std::vector<int64_t> received) = 0;
  virtual std::unique_ptr<Work> all_reduce(at::Tensor output) = 0;
  virtual std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) = 0;
  virtual std::unique_ptr<Work> broadcast(at::Tensor output, int64_t root) = 0;
  /// What another rank would give is known here already: nothing is ever on the wire.
  virtual bool local() const { return false; }
};

}  // namespace farskip::comm
