// The one file that sees c10d's NCCL. Compiled where LibTorch has CUDA and the headers of CUDA and
// NCCL are at hand (cmake/LibTorch.cmake); nccl_missing.cpp takes its place elsewhere.
#define USE_C10D_NCCL
#include "comm/nccl.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace farskip::comm {
namespace {

class NcclWork : public Work {
 public:
  NcclWork(c10::intrusive_ptr<c10d::Work> work, at::Tensor input, at::Tensor output)
      : work_(std::move(work)), input_(std::move(input)), output_(std::move(output)) {}

  at::Tensor wait() override {
    work_->wait();
    arrival_ = Clock::now();
    return output_;
  }
  bool arrived() const override { return work_->isCompleted(); }
  Clock::time_point arrival() const override { return arrival_; }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  at::Tensor input_, output_;
  Clock::time_point arrival_;
};

class NcclBackend : public Backend {
 public:
  NcclBackend(std::shared_ptr<Backend> cpu, c10::Device device,
              c10::intrusive_ptr<c10d::ProcessGroupNCCL> group)
      : cpu_(std::move(cpu)), device_(device), group_(std::move(group)) {}

  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t> sent,
                                   std::vector<int64_t> received) override {
    if (input.is_cpu())
      return cpu_->all_to_all(std::move(input), std::move(output), std::move(sent),
                              std::move(received));
    const c10::DeviceGuard guard(device_);  // a courier's thread may launch
    auto work = group_->alltoall_base(output, input, received, sent);
    return std::make_unique<NcclWork>(std::move(work), std::move(input), std::move(output));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    if (output.is_cpu()) return cpu_->all_reduce(std::move(output));
    std::vector<at::Tensor> tensors{output};
    return std::make_unique<NcclWork>(group_->allreduce(tensors), at::Tensor(), std::move(output));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    if (input.is_cpu()) return cpu_->all_gather(std::move(input), std::move(output));
    auto work = group_->_allgather_base(output, input);
    return std::make_unique<NcclWork>(std::move(work), std::move(input), std::move(output));
  }
  std::unique_ptr<Work> broadcast(at::Tensor output, int64_t root) override {
    if (output.is_cpu()) return cpu_->broadcast(std::move(output), root);
    std::vector<at::Tensor> tensors{output};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return std::make_unique<NcclWork>(group_->broadcast(tensors, options), at::Tensor(),
                                      std::move(output));
  }

 private:
  std::shared_ptr<Backend> cpu_;
  c10::Device device_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
};

}  // namespace

std::shared_ptr<Backend> nccl_backend(std::shared_ptr<Backend> cpu, c10::Device device,
                                      const c10::intrusive_ptr<c10d::Store>& store,
                                      const std::string& name, int64_t rank, int64_t size,
                                      std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return std::make_shared<NcclBackend>(
      std::move(cpu), device,
      c10::make_intrusive<c10d::ProcessGroupNCCL>(
          c10::make_intrusive<c10d::PrefixStore>(name + "/nccl", store), static_cast<int>(rank),
          static_cast<int>(size), options));
}

}  // namespace farskip::comm
