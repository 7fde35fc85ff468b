// The one file that sees c10d. Gloo's headers come from the system for the types that c10d's name;
// its code is the one inside libtorch_cpu (libgloo is never linked).
#define USE_C10D_GLOO
#include "comm/group.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <exception>
#include <numeric>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace farskip::comm {

struct Group::Backend {
  c10::intrusive_ptr<c10d::Backend> c10d;
  std::string name;
};

namespace {

/// c10d's messages carry a C++ stack and line breaks; a user gets the first line.
std::string first_line(const std::exception& error) {
  const auto* ours = dynamic_cast<const c10::Error*>(&error);
  std::string text = ours ? ours->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

std::string failure(const std::string& what, int64_t rank, int64_t size,
                    const std::exception& error) {
  return util::concat("rank ", rank, " of ", size, ": ", what, ": ", first_line(error));
}

/// One collective of c10d on the wire.
class C10Work : public Work {
 public:
  C10Work(c10::intrusive_ptr<c10d::Work> work, at::Tensor input, at::Tensor output,
          std::string what, int64_t rank, int64_t size)
      : work_(std::move(work)),
        input_(std::move(input)),
        output_(std::move(output)),
        what_(std::move(what)),
        rank_(rank),
        size_(size) {}

  at::Tensor wait() override {
    try {
      work_->wait();
    } catch (const std::exception& error) {
      throw CommError(failure(what_, rank_, size_, error));
    }
    return output_;
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  at::Tensor input_, output_;
  std::string what_;
  int64_t rank_, size_;
};

int64_t sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

/// Launches and wraps. `launch` gets the backend's own copies of what it may move from.
template <class Launch>
Pending launched(const std::string& what, const Group& group, at::Tensor input, at::Tensor output,
                 Launch launch) {
  try {
    auto work = launch(output, input);
    return Pending(std::make_unique<C10Work>(std::move(work), std::move(input), std::move(output),
                                             what, group.rank(), group.size()));
  } catch (const std::exception& error) {
    throw CommError(failure(what, group.rank(), group.size(), error));
  }
}

}  // namespace

Pending Group::all_to_all(const std::string& what, const at::Tensor& x, std::vector<int64_t> sent,
                          std::vector<int64_t> received) const {
  const auto count = static_cast<size_t>(size_);
  if (sent.size() != count || received.size() != count || sum(sent) != x.size(0))
    throw Error(util::concat(what, ": found splits of ", sent.size(), " and ", received.size(),
                             " ranks over ", sum(sent), " rows, expected ", size_, " ranks and ",
                             x.size(0), " rows"));
  if (!backend_) return Pending(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.front() = sum(received);
  return launched(what, *this, x.detach().contiguous(), at::empty(shape, x.options()),
                  [&](at::Tensor& output, at::Tensor& input) {
                    return backend_->c10d->alltoall_base(output, input, received, sent);
                  });
}

Pending Group::all_reduce(const std::string& what, const at::Tensor& x) const {
  if (!backend_) return Pending(x);
  return launched(what, *this, {}, x.detach().clone(at::MemoryFormat::Contiguous),
                  [&](at::Tensor& output, at::Tensor&) {
                    std::vector<at::Tensor> tensors{output};
                    return backend_->c10d->allreduce(tensors);
                  });
}

Pending Group::all_gather(const std::string& what, const at::Tensor& x) const {
  if (!backend_) return Pending(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.front() *= size_;
  return launched(what, *this, x.detach().contiguous(), at::empty(shape, x.options()),
                  [&](at::Tensor& output, at::Tensor& input) {
                    return backend_->c10d->_allgather_base(output, input);
                  });
}

Pending Group::broadcast(const std::string& what, const at::Tensor& x, int64_t root) const {
  if (!backend_) return Pending(x);
  return launched(what, *this, {}, x.detach().clone(at::MemoryFormat::Contiguous),
                  [&](at::Tensor& output, at::Tensor&) {
                    std::vector<at::Tensor> tensors{output};
                    c10d::BroadcastOptions options;
                    options.rootRank = root;
                    return backend_->c10d->broadcast(tensors, options);
                  });
}

void Group::barrier(const std::string& what) const {
  all_reduce(what, at::zeros({1})).wait();
}

struct Rendezvous::State {
  LaunchEnvironment environment;
  c10::intrusive_ptr<c10d::Store> store;  // null for a single process
  std::chrono::milliseconds timeout;
  int64_t made = 0;  ///< groups so far; every rank counts alike

  std::string next_name() { return util::concat("farskip/", environment.attempt, "/", made++); }
  Group make(const std::string& name, int64_t rank, int64_t size) const {
    Group group;
    group.rank_ = rank;
    group.size_ = size;
    if (size == 1) return group;
    try {
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
      options->devices.push_back(
          interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                    : c10d::ProcessGroupGloo::createDefaultDevice());
      auto prefixed = c10::make_intrusive<c10d::PrefixStore>(name, store);
      group.backend_ = std::make_shared<Group::Backend>(
          Group::Backend{c10::make_intrusive<c10d::ProcessGroupGloo>(
                             prefixed, static_cast<int>(rank), static_cast<int>(size), options),
                         name});
    } catch (const std::exception& error) {
      throw CommError(failure("meeting the other ranks", rank, size, error));
    }
    return group;
  }
};

Rendezvous::Rendezvous(std::unique_ptr<State> state) : state_(std::move(state)) {}
Rendezvous::~Rendezvous() = default;

Rendezvous::Rendezvous(const LaunchEnvironment& environment, std::chrono::milliseconds timeout)
    : state_(std::make_unique<State>(State{environment, {}, timeout})) {
  if (environment.size == 1) return;
  try {
    c10d::TCPStoreOptions options;
    options.port = environment.port;
    options.isServer = environment.rank == 0 && !environment.served;
    options.waitWorkers = !environment.served;
    options.numWorkers = environment.size;
    options.timeout = timeout;
    state_->store = c10::make_intrusive<c10d::TCPStore>(environment.address, options);
  } catch (const std::exception& error) {
    throw CommError(failure(util::concat("meeting at ", environment.address, ":", environment.port),
                            environment.rank, environment.size, error));
  }
}

int64_t Rendezvous::rank() const {
  return state_->environment.rank;
}
int64_t Rendezvous::size() const {
  return state_->environment.size;
}

Group Rendezvous::all() {
  return state_->make(state_->next_name(), rank(), size());
}

Group Rendezvous::split(int64_t color) {
  const Group everyone = all();
  const at::Tensor colors =
      everyone.all_gather("forming groups", at::full({1}, color, at::kLong)).wait();
  std::vector<int64_t> members;
  for (int64_t r = 0; r < size(); ++r)
    if (colors[r].item<int64_t>() == color) members.push_back(r);
  const auto own = std::find(members.begin(), members.end(), rank()) - members.begin();
  return state_->make(util::concat(state_->next_name(), "/", color), own,
                      static_cast<int64_t>(members.size()));
}

void Rendezvous::threads(int64_t size, const std::function<void(Rendezvous&)>& rank,
                         std::chrono::milliseconds timeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const bool gradients = at::GradMode::is_enabled();
  std::vector<std::exception_ptr> failures(size);
  std::vector<std::thread> threads;
  for (int64_t r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      const at::AutoGradMode mode(gradients);
      at::set_num_threads(1);
      try {
        LaunchEnvironment environment;
        environment.rank = environment.local_rank = r;
        environment.size = size;
        Rendezvous own(std::make_unique<State>(State{environment, store, timeout}));
        rank(own);
      } catch (...) {
        failures[r] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace farskip::comm
