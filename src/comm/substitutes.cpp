#include "comm/substitutes.h"

#include <ATen/ATen.h>

#include <mutex>
#include <random>
#include <thread>

#include "comm/backend.h"

namespace farskip::comm {
namespace {

class ReadyWork : public Work {
 public:
  explicit ReadyWork(at::Tensor output) : output_(std::move(output)) {}
  at::Tensor wait() override { return output_; }
  Clock::time_point arrival() const override { return arrival_; }

 private:
  at::Tensor output_;
  Clock::time_point arrival_ = Clock::now();
};

class Copies : public Backend {
 public:
  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t>,
                                   std::vector<int64_t>) override {
    output.copy_(input);  // the splits received are those sent (see Group::all_to_all)
    return std::make_unique<ReadyWork>(std::move(output));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    return std::make_unique<ReadyWork>(std::move(output));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    for (int64_t r = 0; r * input.size(0) < output.size(0); ++r)
      output.narrow(0, r * input.size(0), input.size(0)).copy_(input);
    return std::make_unique<ReadyWork>(std::move(output));
  }
  std::unique_ptr<Work> broadcast(at::Tensor output, int64_t) override {
    return std::make_unique<ReadyWork>(std::move(output));
  }
  bool local() const override { return true; }
};

class LateWork : public Work {
 public:
  LateWork(std::unique_ptr<Work> work, Clock::time_point due) : work_(std::move(work)), due_(due) {}
  at::Tensor wait() override {
    at::Tensor output = work_->wait();
    std::this_thread::sleep_until(due_);
    return output;
  }
  bool arrived() const override { return Clock::now() >= due_ && work_->arrived(); }
  Clock::time_point arrival() const override { return std::max(work_->arrival(), due_); }

 private:
  std::unique_ptr<Work> work_;
  Clock::time_point due_;
};

class Delays : public Backend {
 public:
  Delays(std::shared_ptr<Backend> inner, uint64_t seed, std::chrono::microseconds most)
      : inner_(std::move(inner)), random_(seed), most_(most.count()) {}

  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t> sent,
                                   std::vector<int64_t> received) override {
    return late(inner_->all_to_all(std::move(input), std::move(output), std::move(sent),
                                   std::move(received)));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    return late(inner_->all_reduce(std::move(output)));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    return late(inner_->all_gather(std::move(input), std::move(output)));
  }
  std::unique_ptr<Work> broadcast(at::Tensor output, int64_t root) override {
    return late(inner_->broadcast(std::move(output), root));
  }

 private:
  std::unique_ptr<Work> late(std::unique_ptr<Work> work) {
    const std::lock_guard lock(mutex_);  // a courier's thread launches too
    const std::chrono::microseconds delay(
        std::uniform_int_distribution<int64_t>(0, most_)(random_));
    return std::make_unique<LateWork>(std::move(work), Clock::now() + delay);
  }

  std::shared_ptr<Backend> inner_;
  std::mutex mutex_;
  std::mt19937_64 random_;
  int64_t most_;
};

}  // namespace

Group without_network(int64_t rank, int64_t size) {
  return {std::make_shared<Copies>(), rank, size};
}

Group delayed(const Group& group, uint64_t seed, std::chrono::microseconds most) {
  if (group.size() == 1) return group;
  return {std::make_shared<Delays>(group.backend(), seed, most), group.rank(), group.size()};
}

}  // namespace farskip::comm
