// The one file that sees c10d's Gloo. Gloo's headers come from the system for the types that c10d's
// name; its code is the one inside libtorch_cpu (libgloo is never linked).
#define USE_C10D_GLOO
#include "comm/gloo.h"

#include <ATen/ATen.h>

#include <atomic>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace farskip::comm {
namespace {

class GlooWork : public Work {
 public:
  GlooWork(c10::intrusive_ptr<c10d::Work> work, at::Tensor input, at::Tensor output)
      : work_(std::move(work)), input_(std::move(input)), output_(std::move(output)) {
    work_->getFuture()->addCallback([done = done_](c10::ivalue::Future&) {
      done->store(Clock::now().time_since_epoch().count(), std::memory_order_release);
    });
  }

  at::Tensor wait() override {
    work_->wait();
    int64_t unset = 0;  // the wait may return before the callback has run
    done_->compare_exchange_strong(unset, Clock::now().time_since_epoch().count());
    return output_;
  }
  bool arrived() const override { return done_->load(std::memory_order_acquire) != 0; }
  Clock::time_point arrival() const override {
    return Clock::time_point(Clock::duration(done_->load()));
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  at::Tensor input_, output_;
  std::shared_ptr<std::atomic<int64_t>> done_ = std::make_shared<std::atomic<int64_t>>(0);
};

class GlooBackend : public Backend {
 public:
  explicit GlooBackend(c10::intrusive_ptr<c10d::Backend> group) : group_(std::move(group)) {}

  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t> sent,
                                   std::vector<int64_t> received) override {
    auto work = group_->alltoall_base(output, input, received, sent);  // moves from the splits
    return std::make_unique<GlooWork>(std::move(work), std::move(input), std::move(output));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    std::vector<at::Tensor> tensors{output};
    return std::make_unique<GlooWork>(group_->allreduce(tensors), at::Tensor(), std::move(output));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    auto work = group_->_allgather_base(output, input);
    return std::make_unique<GlooWork>(std::move(work), std::move(input), std::move(output));
  }
  std::unique_ptr<Work> broadcast(at::Tensor output, int64_t root) override {
    std::vector<at::Tensor> tensors{output};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return std::make_unique<GlooWork>(group_->broadcast(tensors, options), at::Tensor(),
                                      std::move(output));
  }

 private:
  c10::intrusive_ptr<c10d::Backend> group_;
};

}  // namespace

GlooDevice gloo_device() {
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  return interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                   : c10d::ProcessGroupGloo::createDefaultDevice();
}

std::shared_ptr<Backend> gloo_backend(const GlooDevice& device,
                                      const c10::intrusive_ptr<c10d::Store>& store,
                                      const std::string& name, int64_t rank, int64_t size,
                                      std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(device);
  return std::make_shared<GlooBackend>(c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>(name, store), static_cast<int>(rank),
      static_cast<int>(size), options));
}

}  // namespace farskip::comm
