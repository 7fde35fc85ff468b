#include "comm/reducer.h"

#include <ATen/ATen.h>

#include <functional>

#include "comm/recorded_work.h"

namespace farskip::comm {
namespace {

/// Up to so many bytes to all other ranks, everybody sends its part to everybody: one step where a
/// ring takes 2 (N - 1). Of two ranks at 1 Gbit/s it takes 64 KiB 1.4 ms against 3.6, and at 1 MiB
/// the ring is ahead (bench/link_check, 2026-11-26).
constexpr int64_t kDirectBytes = 256 << 10;

/// Of two ranks, up to so many bytes by one operation for both directions. They take turns on its
/// connection (see gloo.cpp), which for so few bytes takes less than the threads of a second one.
constexpr int64_t kTogetherBytes = 32 << 10;

/// Makes the sum's tensor of what has come.
class SumWork : public Work {
 public:
  using Finish = std::function<at::Tensor(const at::Tensor& received)>;
  SumWork(Pending pending, Finish finish)
      : pending_(std::move(pending)), finish_(std::move(finish)) {}
  at::Tensor wait() override { return finish_(pending_.wait()); }
  bool arrived() const override { return pending_.arrived(); }

 private:
  Pending pending_;
  Finish finish_;
};

/// own and the others' [N - 1, ...], added in the order of the ranks with one rounding, so that
/// every rank has the same bits.
at::Tensor sum_of(const at::Tensor& own, const at::Tensor& others, int64_t rank) {
  const auto wide = own.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor sum;
  for (int64_t r = 0; r <= others.size(0); ++r) {
    const at::Tensor part = r == rank ? own : others[r < rank ? r : r - 1];
    sum = sum.defined() ? sum.add_(part) : part.to(wide, /*non_blocking=*/false, /*copy=*/true);
  }
  return sum;
}

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
  const Message message{name, bytes, Clock::now()};
  return Pending(std::make_unique<RecordedWork>(
      pending.release(), message, [state = state_](const Message& done, const at::Tensor&) {
        if (state->log) state->log->messages.push_back(done);
      }));
}

Pending Reducer::all_reduce(const MessageName& name, const at::Tensor& x, at::ScalarType wire) {
  const int64_t ranks = group().size();
  if (ranks == 1 || x.numel() == 0) return Pending(x);
  const at::Tensor sent = x.to(wire).contiguous();
  const auto bytes = static_cast<int64_t>(sent.nbytes());
  const at::ScalarType dtype = x.scalar_type();
  if ((ranks - 1) * bytes > kDirectBytes) {
    Pending sum =
        recorded(name, 2 * (ranks - 1) * bytes / ranks, group().all_reduce(name.describe(), sent));
    if (wire == dtype) return sum;
    return Pending(std::make_unique<SumWork>(
        std::move(sum), [dtype](const at::Tensor& received) { return received.to(dtype); }));
  }
  if (ranks == 2 && bytes <= kTogetherBytes) {
    Pending both = recorded(name, bytes, group().all_gather(name.describe(), sent.unsqueeze(0)));
    return Pending(std::make_unique<SumWork>(
        std::move(both), [dtype](const at::Tensor& received) {
          return sum_of(received[0], received.narrow(0, 1, 1), 0).to(dtype);
        }));
  }
  const int64_t rank = group().rank();
  std::vector<int64_t> others(ranks, sent.numel());
  others[rank] = 0;
  Pending copies = recorded(
      name, (ranks - 1) * bytes,
      group().all_to_all(name.describe(), sent.view(-1).repeat({ranks - 1}), others, others));
  return Pending(std::make_unique<SumWork>(
      std::move(copies), [sent, rank, ranks, dtype](const at::Tensor& received) {
        std::vector<int64_t> shape = sent.sizes().vec();
        shape.insert(shape.begin(), ranks - 1);
        return sum_of(sent, received.view(shape), rank).to(dtype);
      }));
}

Pending Reducer::all_gather(const MessageName& name, const at::Tensor& x) {
  const int64_t ranks = group().size();
  if (ranks == 1) return Pending(x);
  return recorded(name, (ranks - 1) * static_cast<int64_t>(x.nbytes()),
                  group().all_gather(name.describe(), x));
}

}  // namespace farskip::comm
