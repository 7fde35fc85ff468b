// How many sequences may be under way at once.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

namespace farskip::serve {

/// Any thread may use it.
class Admission {
 public:
  explicit Admission(int64_t most)
      : most_(most), taken_(std::make_shared<std::atomic<int64_t>>(0)) {}

  int64_t most() const { return most_; }
  /// Room for `count` sequences, until the result goes; null if there is none.
  std::shared_ptr<void> enter(int64_t count) const {
    if (taken_->fetch_add(count) + count > most_) {
      taken_->fetch_sub(count);
      return nullptr;
    }
    return {taken_.get(), [taken = taken_, count](void*) { taken->fetch_sub(count); }};
  }

 private:
  int64_t most_;
  std::shared_ptr<std::atomic<int64_t>> taken_;
};

}  // namespace farskip::serve
