// The result of a collective that may still be on the wire.
#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace farskip::comm {

using Clock = std::chrono::steady_clock;

/// The handle of one launched collective; it owns input and output until the wait.
class Work {
 public:
  virtual ~Work() = default;
  /// Blocks until the message is there and returns the output. A peer's failure is rethrown here.
  virtual at::Tensor wait() = 0;
  /// Whether wait() would return (or throw) at once.
  virtual bool arrived() const { return true; }
  /// From now on the output is needed, and the time until the wait is filled otherwise; wait() says
  /// so by itself.
  virtual void ask() {}
  /// When the message was there. Only after wait().
  virtual Clock::time_point arrival() const { return {}; }
};

/// A tensor that is waited for exactly once. Dropping it un-waited would leave the other ranks
/// hanging, so that is a bug and aborts, unless an exception is already on its way. Move-only; not
/// thread-safe.
class [[nodiscard]] Pending {
 public:
  /// Nothing on the wire (a group of one, a local copy): wait() returns the tensor.
  explicit Pending(at::Tensor ready) : ready_(std::move(ready)), due_(true) {}
  explicit Pending(std::unique_ptr<Work> work) : work_(std::move(work)), due_(true) {}
  Pending(Pending&& other) noexcept { *this = std::move(other); }
  Pending& operator=(Pending&& other) noexcept {
    ready_ = std::move(other.ready_);
    work_ = std::move(other.work_);
    due_ = std::exchange(other.due_, false);
    return *this;
  }
  ~Pending() {
    if (!due_ || std::uncaught_exceptions() > 0) return;
    std::fputs("farskip: bug: a pending collective was dropped without being waited for\n", stderr);
    std::abort();
  }

  bool due() const { return due_; }
  bool arrived() const { return !work_ || work_->arrived(); }
  void ask() {
    if (work_) work_->ask();
  }
  at::Tensor wait() {
    due_ = false;
    return work_ ? std::exchange(work_, nullptr)->wait() : std::exchange(ready_, at::Tensor());
  }
  /// The handle, for a Work that wraps it and is waited for in its place; null where nothing is on
  /// the wire.
  std::unique_ptr<Work> release() {
    due_ = false;
    return std::exchange(work_, nullptr);
  }

 private:
  at::Tensor ready_;
  std::unique_ptr<Work> work_;
  bool due_ = false;
};

/// One tensor [N, sum of the columns] of at least one that arrives in parts [N, columns].
Pending joined(std::vector<Pending> columns);

}  // namespace farskip::comm
