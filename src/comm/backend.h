// What carries the collectives of a group. Only this room sees it; everybody else sees Group.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/pending.h"

namespace farskip::comm {

/// Of a group's messages. Those in the background wait while others of this rank are on their way.
enum class Urgency { now, background };

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
