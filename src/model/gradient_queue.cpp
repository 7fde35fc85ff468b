#include "model/gradient_queue.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

namespace farskip::model {

void GradientQueue::push(const at::Tensor& gradient, int64_t bytes, std::function<void()> work) {
  // Parameters that share a gradient share its memory.
  const void* key = gradient.const_data_ptr();
  items_.push_back({key, bytes, std::move(work)});
  ++waiting_[key];
  bytes_ += bytes;
  while (bytes_ > most_bytes_ && run_one()) {
  }
  peak_ = std::max(peak_, bytes_);
}

bool GradientQueue::run_one() {
  if (items_.empty()) return false;
  const c10::AutoGradMode no_grad(false);  // a forward pass may be waiting
  const Item item = std::move(items_.front());
  items_.pop_front();
  bytes_ -= item.bytes;
  item.work();
  if (--waiting_[item.gradient] == 0) waiting_.erase(item.gradient);
  if (moved_) moved_();
  return true;
}

void GradientQueue::pass(int64_t layer) {
  passed_ = layer;
  if (moved_) moved_();
}

bool GradientQueue::holds(const at::Tensor& gradient) const {
  return waiting_.contains(gradient.const_data_ptr());
}

void GradientQueue::drain() {
  while (run_one()) {
  }
}

void GradientQueue::clear() {
  items_.clear();
  waiting_.clear();
  bytes_ = 0;
}

int64_t GradientQueue::take_peak_bytes() {
  return std::exchange(peak_, bytes_);
}

}  // namespace farskip::model
