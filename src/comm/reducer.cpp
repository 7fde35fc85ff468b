#include "comm/reducer.h"

#include <ATen/ATen.h>

#include "comm/recorded_work.h"

namespace farskip::comm {
namespace {

class ConvertedWork : public Work {
 public:
  ConvertedWork(Pending pending, at::ScalarType dtype)
      : pending_(std::move(pending)), dtype_(dtype) {}
  at::Tensor wait() override { return pending_.wait().to(dtype_); }
  bool arrived() const override { return pending_.arrived(); }

 private:
  Pending pending_;
  at::ScalarType dtype_;
};

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
  const at::Tensor sent = x.to(wire);
  const auto bytes = static_cast<int64_t>(sent.nbytes());
  // A ring of ranks: what each of them sends.
  Pending sum = recorded(name, 2 * (ranks - 1) * bytes / ranks,
                         group().all_reduce(name.describe(), sent));
  if (wire == x.scalar_type()) return sum;
  return Pending(std::make_unique<ConvertedWork>(std::move(sum), x.scalar_type()));
}

Pending Reducer::all_gather(const MessageName& name, const at::Tensor& x) {
  const int64_t ranks = group().size();
  if (ranks == 1) return Pending(x);
  return recorded(name, (ranks - 1) * static_cast<int64_t>(x.nbytes()),
                  group().all_gather(name.describe(), x));
}

}  // namespace farskip::comm
