#include "comm/reducer.h"

#include <ATen/ATen.h>

#include "comm/rank_sum.h"
#include "comm/recorded_work.h"

namespace farskip::comm {
namespace {

/// Up to so many bytes to all other ranks, everybody sends its part to everybody: one step where a
/// ring takes 2 (N - 1). Of two ranks it takes no more bytes than a ring, so that those always do.
constexpr int64_t kCopiesBytes = 256 << 10;

}  // namespace

struct Reducer::State {
  Group group;
  MessageLog* log = nullptr;
};

Reducer::Reducer(Group group) : state_(std::make_shared<State>(State{std::move(group)})) {}

const Group& Reducer::group() const {
  return state_->group;
}
void Reducer::record(MessageLog* log) {
  state_->log = log;
}

Pending Reducer::recorded(const MessageName& name, int64_t bytes, Pending pending) const {
  return Pending(std::make_unique<RecordedWork>(
      pending.release(), name, bytes, [state = state_](const Message& done, const at::Tensor&) {
        if (state->log) state->log->messages.push_back(done);
      }));
}

Pending Reducer::all_reduce(const MessageName& name, const at::Tensor& x, at::ScalarType wire) {
  const int64_t ranks = group().size();
  if (ranks == 1 || x.numel() == 0) return Pending(x);
  const at::Tensor sent = x.to(wire).contiguous();
  const auto bytes = static_cast<int64_t>(sent.nbytes());
  const at::ScalarType dtype = x.scalar_type();
  if (ranks == 2 || (ranks - 1) * bytes <= kCopiesBytes) {
    return summed(recorded(name, (ranks - 1) * bytes, group().all_gather(name.describe(), sent)),
                  ranks, dtype);
  }
  Pending sum =
      recorded(name, 2 * (ranks - 1) * bytes / ranks, group().all_reduce(name.describe(), sent));
  if (wire == dtype) return sum;
  return finished(std::move(sum),
                  [dtype](const at::Tensor& received) { return received.to(dtype); });
}

Pending Reducer::reduce_scatter(const MessageName& name, const at::Tensor& x, at::ScalarType wire) {
  const int64_t ranks = group().size();
  if (ranks == 1 || x.numel() == 0) return Pending(x);
  const std::vector<int64_t> rows(ranks, x.size(0) / ranks);
  const at::Tensor sent = x.to(wire).contiguous();
  const auto bytes = static_cast<int64_t>(sent.nbytes());
  return summed(recorded(name, (ranks - 1) * bytes / ranks,
                         group().all_to_all(name.describe(), sent, rows, rows)),
                ranks, x.scalar_type());
}

Pending Reducer::all_gather(const MessageName& name, const at::Tensor& x) {
  const int64_t ranks = group().size();
  if (ranks == 1) return Pending(x);
  return recorded(name, (ranks - 1) * static_cast<int64_t>(x.nbytes()),
                  group().all_gather(name.describe(), x));
}

}  // namespace farskip::comm
