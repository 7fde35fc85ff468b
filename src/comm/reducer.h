// Sums over ranks that each compute a part of every layer.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/group.h"
#include "comm/message_log.h"

namespace farskip::comm {

/// Every rank must launch the same messages of the same sizes in the same order, and gets the same
/// bits. Used by one thread.
class Reducer {
 public:
  /// A group that this reducer alone uses.
  explicit Reducer(Group group);

  const Group& group() const;

  /// The sum over the ranks of x, which travels as `wire`, in x's dtype. Nothing is sent of a
  /// tensor without elements.
  Pending all_reduce(const MessageName& name, const at::Tensor& x, at::ScalarType wire);
  /// Of that sum, the rows of this rank: of x [size n, ...], rank r gets rows r n to (r + 1) n.
  Pending reduce_scatter(const MessageName& name, const at::Tensor& x, at::ScalarType wire);
  /// x of every rank, of the same shape -> [size * x.size(0), ...].
  Pending all_gather(const MessageName& name, const at::Tensor& x);

  /// Where messages are recorded as they are waited for; null: nowhere. Must outlive its use.
  void record(MessageLog* log);

 private:
  struct State;
  Pending recorded(const MessageName& name, int64_t bytes, Pending pending) const;

  std::shared_ptr<State> state_;
};

}  // namespace farskip::comm
