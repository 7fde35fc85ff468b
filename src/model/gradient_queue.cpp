#include "model/gradient_queue.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

namespace farskip::model {

void GradientQueue::push(int64_t bytes, std::function<void()> work) {
  items_.push_back({bytes, std::move(work)});
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
  return true;
}

void GradientQueue::drain() {
  while (run_one()) {
  }
}

void GradientQueue::clear() {
  items_.clear();
  bytes_ = 0;
}

int64_t GradientQueue::take_peak_bytes() {
  return std::exchange(peak_, bytes_);
}

}  // namespace farskip::model
