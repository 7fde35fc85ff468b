#include "comm/courier.h"

#include <ATen/ATen.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "comm/rank_sum.h"
#include "comm/recorded_work.h"
#include "util/fingerprint.h"

namespace farskip::comm {
namespace {

int64_t to_others(const Splits& sent, int64_t own, int64_t row_bytes) {
  return (total(sent) - sent[own]) * row_bytes;
}

/// `orders` int64 [size]: the hashes of all ranks.
void check_order(const Group& group, const MessageName& name, const at::Tensor& orders,
                 int64_t own) {
  const auto of = orders.accessor<int64_t, 1>();
  for (int64_t r = 0; r < group.size(); ++r)
    if (of[r] != own)
      throw CommError(util::concat("rank ", group.rank(), " of ", group.size(), ": ",
                                   name.describe(), ": rank ", r,
                                   " has launched other messages, or in another order"));
}

}  // namespace

struct Courier::State {
  Group rows, counts;
  MessageLog* log = nullptr;
  uint64_t order = util::fingerprint("");  ///< hash of the names of all messages so far
  std::atomic<int64_t> bytes = 0, peak = 0;

  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  std::atomic<int64_t> unfinished = 0;
  bool stop = false;
  std::thread thread;

  void in_flight(int64_t more) {
    const int64_t now = bytes += more;
    int64_t most = peak;
    while (now > most && !peak.compare_exchange_weak(most, now)) {
    }
  }
  void work() {
    for (std::unique_lock lock(mutex);;) {
      wake.wait(lock, [&] { return stop || !tasks.empty(); });
      if (tasks.empty()) return;
      const auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task();
      --unfinished;
      lock.lock();
    }
  }
};

namespace {

/// A message that its courier's thread launches, or has launched.
class LaunchedWork : public Work {
 public:
  explicit LaunchedWork(std::future<std::unique_ptr<Work>> launch) : launch_(std::move(launch)) {}

  at::Tensor wait() override {
    if (!work_) work_ = launch_.get();
    return work_->wait();
  }
  bool arrived() const override {
    if (!work_) {
      if (launch_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
      try {
        work_ = launch_.get();
      } catch (...) {  // kept for the wait
        std::promise<std::unique_ptr<Work>> failed;
        failed.set_exception(std::current_exception());
        launch_ = failed.get_future();
        return true;
      }
    }
    return work_->arrived();
  }
  Clock::time_point arrival() const override { return work_->arrival(); }

 private:
  mutable std::future<std::unique_ptr<Work>> launch_;
  mutable std::unique_ptr<Work> work_;
};

}  // namespace

Courier::Courier(Group rows, Group counts) : state_(std::make_shared<State>()) {
  state_->rows = std::move(rows);
  state_->counts = std::move(counts);
}

Courier::~Courier() {
  if (!state_->thread.joinable()) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_one();
  if (state_->unfinished > 0)
    state_->thread.detach();  // it keeps the state
  else
    state_->thread.join();
}

Pending Courier::carry(const MessageName& name, const at::Tensor& rows, const Splits& sent,
                       bool by_thread, std::function<std::unique_ptr<Work>()> launch) {
  const auto state = state_;
  const int64_t row_bytes = rows.size(1) * rows.element_size();
  state->order = util::fingerprint(name.describe(), state->order);
  state->in_flight(static_cast<int64_t>(rows.nbytes()));

  auto promise = std::make_shared<std::promise<std::unique_ptr<Work>>>();
  auto future = promise->get_future();
  const auto run = [promise, launch = std::move(launch)] {
    try {
      promise->set_value(launch());
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  };
  if (group().local() || (!by_thread && state->unfinished == 0)) {
    run();
  } else {
    if (!state->thread.joinable()) state->thread = std::thread([state] { state->work(); });
    ++state->unfinished;
    const std::lock_guard lock(state->mutex);
    state->tasks.push_back(run);
    state->wake.notify_one();
  }
  return Pending(std::make_unique<RecordedWork>(
      std::make_unique<LaunchedWork>(std::move(future)), name,
      to_others(sent, group().rank(), row_bytes),
      [state, sent_bytes = static_cast<int64_t>(rows.nbytes())](const Message& done,
                                                                const at::Tensor& output) {
        state->in_flight(-sent_bytes - static_cast<int64_t>(output.nbytes()));
        if (state->log) state->log->messages.push_back(done);
      }));
}

Pending Courier::send(const MessageName& name, const at::Tensor& rows, Splits sent,
                      Splits received) {
  return carry(name, rows, sent, /*by_thread=*/false, [state = state_, name, rows, sent, received] {
    state->in_flight(total(received) * rows.size(1) * rows.element_size());
    return state->rows.all_to_all(name.describe(), rows, sent, received).release();
  });
}

int64_t Courier::order_with(const MessageName& name) const {
  return static_cast<int64_t>(util::fingerprint(name.describe(), state_->order));
}

Pending Courier::dispatch(const MessageName& name, const at::Tensor& rows, Splits sent,
                          std::shared_ptr<Splits> received) {
  return carry(
      name, rows, sent, /*by_thread=*/true,
      [state = state_, name, rows, sent, received, order = order_with(name)] {
        const int64_t size = state->rows.size();
        const at::Tensor announced = at::empty({size, 2}, at::kLong);
        auto out = announced.accessor<int64_t, 2>();
        for (int64_t r = 0; r < size; ++r) {
          out[r][0] = sent[r];
          out[r][1] = order;
        }
        const Splits ones(size, 1);
        const at::Tensor counts =
            state->counts.all_to_all(name.describe() + " (counts)", announced, ones, ones).wait();
        check_order(state->rows, name, counts.select(1, 1), order);
        auto in = counts.accessor<int64_t, 2>();
        received->resize(size);
        for (int64_t r = 0; r < size; ++r) (*received)[r] = in[r][0];
        state->in_flight(total(*received) * rows.size(1) * rows.element_size());
        return state->rows.all_to_all(name.describe(), rows, sent, *received).release();
      });
}

Pending Courier::tell(const MessageName& name, const std::vector<int64_t>& own) {
  const int64_t order = order_with(name), count = std::ssize(own);
  std::vector<int64_t> row = own;
  row.push_back(order);
  const at::Tensor rows = at::tensor(row, at::kLong).repeat({group().size(), 1});
  const Splits ones(group().size(), 1);
  return finished(send(name, rows, ones, ones),
                  [state = state_, name, order, count](const at::Tensor& told) {
                    check_order(state->rows, name, told.select(1, count), order);
                    return told.narrow(1, 0, count);
                  });
}

Pending Courier::all_gather(const MessageName& name, const at::Tensor& rows, const Splits& counts) {
  if (total(counts) == 0) return Pending(rows);
  return send(name, rows.repeat({group().size(), 1}), Splits(group().size(), rows.size(0)), counts);
}

Pending Courier::reduce_scatter(const MessageName& name, const at::Tensor& x, const Splits& counts,
                                at::ScalarType wire) {
  if (total(counts) == 0) return Pending(x);
  const int64_t size = group().size(), own = counts[group().rank()];
  return summed(send(name, x.to(wire).contiguous(), counts, Splits(size, own)), size,
                x.scalar_type());
}

const Group& Courier::group() const {
  return state_->rows;
}
void Courier::record(MessageLog* log) {
  state_->log = log;
}
int64_t Courier::take_peak_bytes() {
  return state_->peak.exchange(state_->bytes);
}

}  // namespace farskip::comm
