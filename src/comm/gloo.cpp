// The one file that sees c10d's Gloo. Gloo's headers come from the system for the types that c10d's
// name; its code is the one inside libtorch_cpu (libgloo is never linked).
#define USE_C10D_GLOO
#include "comm/gloo.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "comm/message_threads.h"
#include "util/error.h"

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
  using Meet = std::function<std::unique_ptr<DirectLinks>()>;
  GlooBackend(int64_t rank, int64_t size, c10::intrusive_ptr<c10d::Backend> group, Meet meet)
      : rank_(rank), size_(size), group_(std::move(group)), meet_(std::move(meet)) {}

  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t> sent,
                                   std::vector<int64_t> received) override {
    int64_t from = 0, to = 0;
    return exchange(std::move(output), [&](int64_t r, const at::Tensor& whole) {
      const std::pair rows{input.narrow(0, from, sent[r]), whole.narrow(0, to, received[r])};
      from += sent[r];
      to += received[r];
      return rows;
    });
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    std::vector<at::Tensor> tensors{output};
    return std::make_unique<GlooWork>(group_->allreduce(tensors), at::Tensor(), std::move(output));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    return exchange(std::move(output), [&](int64_t r, const at::Tensor& whole) {
      return std::pair{input, whole.narrow(0, r * input.size(0), input.size(0))};
    });
  }
  std::unique_ptr<Work> broadcast(at::Tensor output, int64_t root) override {
    std::vector<at::Tensor> tensors{output};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return std::make_unique<GlooWork>(group_->broadcast(tensors, options), at::Tensor(),
                                      std::move(output));
  }

 private:
  /// rows_of(rank, output) -> what goes to the rank, and where what comes from it belongs; asked
  /// for in the order of the ranks.
  template <class RowsOf>
  std::unique_ptr<Work> exchange(at::Tensor output, const RowsOf& rows_of) {
    std::vector<DirectLinks::Part> parts;
    for (int64_t r = 0; r < size_; ++r) {
      const auto [sent, received] = rows_of(r, output);
      if (r == rank_)
        received.copy_(sent);
      else
        parts.push_back({r, sent, received});
    }
    if (!direct_) direct_ = meet_();  // every rank comes here at the same message
    return direct_->exchange(parts, std::move(output));
  }

  int64_t rank_, size_;
  c10::intrusive_ptr<c10d::Backend> group_;
  Meet meet_;
  std::unique_ptr<DirectLinks> direct_;
};

/// The device's own address, which it only tells in a description: "..., addr=[127.0.0.1]".
std::string address_of(const GlooDevice& device) {
  const std::string text = device->str(), mark = "addr=[";
  const size_t begin = text.find(mark), end = text.find(']', begin);
  if (begin == std::string::npos || end == std::string::npos)
    throw Error("Gloo's device: found \"" + text + "\", expected its address in it");
  return text.substr(begin + mark.size(), end - begin - mark.size());
}

}  // namespace

GlooDevice gloo_device() {
  const MessageThreads threads(MessageThreads::Kind::move);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  return interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                   : c10d::ProcessGroupGloo::createDefaultDevice();
}

std::shared_ptr<Backend> gloo_backend(const GlooDevice& device,
                                      const c10::intrusive_ptr<c10d::Store>& store,
                                      const std::string& name, int64_t rank, int64_t size,
                                      std::chrono::milliseconds timeout, Precedence precedence) {
  const MessageThreads threads(MessageThreads::Kind::write);
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(device);
  auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>(name, store), static_cast<int>(rank),
      static_cast<int>(size), options);
  const auto meet = [=] {
    return std::make_unique<DirectLinks>(store, name + "/direct", address_of(device), rank, size,
                                         timeout, precedence);
  };
  return std::make_shared<GlooBackend>(rank, size, std::move(group), meet);
}

}  // namespace farskip::comm
