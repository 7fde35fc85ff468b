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

#include "comm/direct.h"
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

/// Two works that make up one, over the halves of one output.
class BothWork : public Work {
 public:
  BothWork(std::unique_ptr<Work> a, std::unique_ptr<Work> b, at::Tensor output)
      : a_(std::move(a)), b_(std::move(b)), output_(std::move(output)) {}
  at::Tensor wait() override {
    a_->wait();
    b_->wait();
    return output_;
  }
  bool arrived() const override { return a_->arrived() && b_->arrived(); }
  Clock::time_point arrival() const override { return std::max(a_->arrival(), b_->arrival()); }

 private:
  std::unique_ptr<Work> a_, b_;
  at::Tensor output_;
};

class GlooBackend : public Backend {
 public:
  using Make = std::function<c10::intrusive_ptr<c10d::Backend>(const std::string& suffix)>;
  using Meet = std::function<std::unique_ptr<DirectLinks>()>;
  GlooBackend(int64_t rank, int64_t size, Make make, Meet meet)
      : rank_(rank),
        size_(size),
        make_(std::move(make)),
        meet_(std::move(meet)),
        group_(make_("")) {}

  /// Two ranks that send to each other over one connection of Gloo's take turns: a request for data
  /// stands behind the data that goes the other way, and the link is used in one direction at a
  /// time. So what goes to lower ranks has connections of its own, and each carries data one way.
  std::unique_ptr<Work> all_to_all(at::Tensor input, at::Tensor output, std::vector<int64_t> sent,
                                   std::vector<int64_t> received) override {
    if (small_between_two(input, output, sent, received))
      return exchange_directly(input, std::move(output), sent, received);
    if (!downward_) downward_ = make_("/downward");  // every rank comes here at the same message
    const auto size = static_cast<int64_t>(sent.size());
    std::vector<int64_t> sent_down(size, 0), received_down(size, 0);
    int64_t rows_down = 0, rows_from_above = 0;
    for (int64_t r = 0; r < rank_; ++r) rows_down += sent_down[r] = std::exchange(sent[r], 0);
    for (int64_t r = rank_ + 1; r < size; ++r)
      rows_from_above += received_down[r] = std::exchange(received[r], 0);
    const auto launch = [](auto& group, const at::Tensor& in, const at::Tensor& out, auto& to,
                           auto& from) {
      at::Tensor target = out, source = in;
      auto work = group->alltoall_base(target, source, from, to);  // moves from the splits
      return std::make_unique<GlooWork>(std::move(work), in, out);
    };
    const int64_t rows_up = input.size(0) - rows_down;
    const int64_t rows_from_below = output.size(0) - rows_from_above;
    auto down =
        launch(downward_, input.narrow(0, 0, rows_down),
               output.narrow(0, rows_from_below, rows_from_above), sent_down, received_down);
    auto up = launch(group_, input.narrow(0, rows_down, rows_up),
                     output.narrow(0, 0, rows_from_below), sent, received);
    return std::make_unique<BothWork>(std::move(down), std::move(up), std::move(output));
  }
  std::unique_ptr<Work> all_reduce(at::Tensor output) override {
    std::vector<at::Tensor> tensors{output};
    return std::make_unique<GlooWork>(group_->allreduce(tensors), at::Tensor(), std::move(output));
  }
  std::unique_ptr<Work> all_gather(at::Tensor input, at::Tensor output) override {
    if ((size_ - 1) * bytes_of(input) <= kSmallBytes) {
      std::vector<DirectLinks::Part> parts;
      const int64_t rows = input.size(0);
      for (int64_t r = 0; r < size_; ++r) {
        const at::Tensor of_rank = output.narrow(0, r * rows, rows);
        if (r == rank_)
          of_rank.copy_(input);
        else
          parts.push_back({r, input, of_rank});
      }
      return direct().exchange(parts, std::move(output));
    }
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
  static int64_t bytes_of(const at::Tensor& tensor) {
    return static_cast<int64_t>(tensor.nbytes());
  }
  /// Both of two ranks know what goes either way; of more, none knows what others exchange.
  bool small_between_two(const at::Tensor& input, const at::Tensor& output,
                         const std::vector<int64_t>& sent,
                         const std::vector<int64_t>& received) const {
    if (size_ != 2) return false;
    const at::Tensor& some = input.size(0) > 0 ? input : output;
    const int64_t row_bytes = some.size(0) > 0 ? bytes_of(some) / some.size(0) : 0;
    return std::max(sent[1 - rank_], received[1 - rank_]) * row_bytes <= kSmallBytes;
  }
  std::unique_ptr<Work> exchange_directly(const at::Tensor& input, at::Tensor output,
                                          const std::vector<int64_t>& sent,
                                          const std::vector<int64_t>& received) {
    const auto rows = [](const at::Tensor& x, const std::vector<int64_t>& splits, int64_t rank) {
      return x.narrow(0, rank == 0 ? 0 : splits[0], splits[rank]);
    };
    const int64_t peer = 1 - rank_;
    rows(output, received, rank_).copy_(rows(input, sent, rank_));
    const DirectLinks::Part part{peer, rows(input, sent, peer), rows(output, received, peer)};
    return direct().exchange({part}, std::move(output));
  }
  DirectLinks& direct() {
    if (!direct_) direct_ = meet_();  // every rank comes here at the same message
    return *direct_;
  }

  int64_t rank_, size_;
  Make make_;
  Meet meet_;
  c10::intrusive_ptr<c10d::Backend> group_, downward_;
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
                                      std::chrono::milliseconds timeout) {
  const auto make = [=](const std::string& suffix) {
    const MessageThreads threads(MessageThreads::Kind::write);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(device);
    return c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<c10d::PrefixStore>(name + suffix, store), static_cast<int>(rank),
        static_cast<int>(size), options);
  };
  const auto meet = [=] {
    return std::make_unique<DirectLinks>(store, name + "/direct", address_of(device), rank, size,
                                         timeout);
  };
  return std::make_shared<GlooBackend>(rank, size, make, meet);
}

}  // namespace farskip::comm
