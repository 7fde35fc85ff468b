// A message that writes down what became of it.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "comm/message_log.h"

namespace farskip::comm {

class RecordedWork : public Work {
 public:
  /// Called by the wait, with everything known.
  using Done = std::function<void(const Message&, const at::Tensor& output)>;

  /// Made when the launch of `work` has returned: what the compute thread did for it until then is
  /// neither hidden nor waiting.
  RecordedWork(std::unique_ptr<Work> work, const MessageName& name, int64_t bytes, Done done)
      : work_(std::move(work)), message_{name, bytes, Clock::now()}, done_(std::move(done)) {}

  at::Tensor wait() override {
    message_.wait_begin = Clock::now();
    if (message_.asked == Clock::time_point()) message_.asked = message_.wait_begin;
    const at::Tensor output = work_->wait();
    message_.wait_end = Clock::now();
    // A small message may be there before its launch has returned.
    message_.arrived = std::max(work_->arrival(), message_.launched);
    done_(message_, output);
    return output;
  }
  bool arrived() const override { return work_->arrived(); }
  void ask() override {
    if (message_.asked == Clock::time_point()) message_.asked = Clock::now();
  }

 private:
  std::unique_ptr<Work> work_;
  Message message_;
  Done done_;
};

}  // namespace farskip::comm
