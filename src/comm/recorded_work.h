// A message that writes down what became of it.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "comm/message_log.h"

namespace farskip::comm {

class RecordedWork : public Work {
 public:
  /// Called by the wait, with everything known.
  using Done = std::function<void(const Message&, const at::Tensor& output)>;

  /// `message`: its name, bytes and launch.
  RecordedWork(std::unique_ptr<Work> work, Message message, Done done)
      : work_(std::move(work)), message_(std::move(message)), done_(std::move(done)) {}

  at::Tensor wait() override {
    message_.wait_begin = Clock::now();
    if (message_.asked == Clock::time_point()) message_.asked = message_.wait_begin;
    const at::Tensor output = work_->wait();
    message_.wait_end = Clock::now();
    message_.arrived = work_->arrival();
    done_(message_, output);
    return output;
  }
  bool arrived() const override {
    if (message_.asked == Clock::time_point()) message_.asked = Clock::now();
    return work_->arrived();
  }

 private:
  std::unique_ptr<Work> work_;
  mutable Message message_;
  Done done_;
};

}  // namespace farskip::comm
