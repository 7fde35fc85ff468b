#include "model/turns.h"

#include <ATen/ThreadLocalState.h>

#include <utility>

namespace farskip::model {
namespace {

/// Ends a strand whose other one has failed. Autograd's engine lets only standard exceptions
/// through.
struct Abandoned : std::exception {};

}  // namespace

Turns::~Turns() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::vector<Turns::Turn> Turns::run(const std::function<void()>& first,
                                    const std::function<void()>& second) {
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  {
    const std::lock_guard lock(mutex_);
    running_ = {true, true};
    turn_ = 0;
    failure_ = nullptr;
    turns_.clear();
    since_ = comm::Clock::now();
    second_ = [&second, state = at::ThreadLocalState()] {
      const at::ThreadLocalStateGuard as_the_caller(state);
      second();
    };
  }
  play(0, first);
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return !running_[1]; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::exchange(turns_, {});
}

void Turns::hand_over() {
  std::unique_lock lock(mutex_);
  if (failure_) throw Abandoned();
  if (!running_[0] || !running_[1]) return;
  const int own = turn_;
  pass_on(1 - own);
  wake_.wait(lock, [&] { return turn_ == own; });
  if (failure_) throw Abandoned();
}

void Turns::play(int strand, const std::function<void()>& work) {
  std::exception_ptr failure;
  try {
    if (!failed()) work();
  } catch (const Abandoned&) {
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  if (failure && !failure_) failure_ = failure;
  running_[strand] = false;
  pass_on(1 - strand);
}

bool Turns::failed() {
  const std::lock_guard lock(mutex_);
  return failure_ != nullptr;
}

void Turns::pass_on(int to) {
  const auto now = comm::Clock::now();
  turns_.push_back({turn_, since_, now});
  since_ = now;
  turn_ = to;
  wake_.notify_all();
}

void Turns::work() {
  for (std::unique_lock lock(mutex_);;) {
    wake_.wait(lock, [&] { return stop_ || (second_ && turn_ == 1); });
    if (stop_) return;
    const auto second = std::exchange(second_, nullptr);
    lock.unlock();
    play(1, second);
    lock.lock();
  }
}

}  // namespace farskip::model
