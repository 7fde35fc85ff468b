#include "comm/rendezvous.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <netdb.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "comm/gloo.h"
#include "comm/nccl.h"

namespace farskip::comm {

struct Rendezvous::State {
  LaunchEnvironment environment;
  c10::intrusive_ptr<c10d::Store> store;  // null for a single process
  std::chrono::milliseconds timeout;
  c10::Device device = c10::kCPU;
  int64_t made = 0;  ///< groups and agreements so far; every rank counts alike
  GlooDevice interface = {};
  std::shared_ptr<UrgentMessages> urgent = std::make_shared<UrgentMessages>(0);

  std::string next_name() { return util::concat("farskip/", environment.attempt, "/", made++); }
  Group make(const std::string& name, int64_t rank, int64_t size, Urgency urgency) {
    if (size == 1) return {};
    try {
      if (!interface) interface = gloo_device();
      auto backend = gloo_backend(interface, store, name, rank, size, timeout, {urgent, urgency});
      if (!device.is_cpu())
        backend = nccl_backend(std::move(backend), device, store, name, rank, size, timeout);
      return {std::move(backend), rank, size};
    } catch (const InputError&) {
      throw;
    } catch (const std::exception& error) {
      throw comm_error("meeting the other ranks", rank, size, error);
    }
  }
};

namespace {

/// c10d would try an unknown name again and again until its timeout.
void require_known(const std::string& address) {
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(address.c_str(), nullptr, nullptr, &found);
  if (failed == 0) freeaddrinfo(found);
  util::require(failed == 0, "MASTER_ADDR",
                util::concat('"', address, "\" (", gai_strerror(failed), ")"),
                "the name or address of rank 0's machine");
}

}  // namespace

Rendezvous::Rendezvous(std::unique_ptr<State> state) : state_(std::move(state)) {}
Rendezvous::~Rendezvous() = default;

Rendezvous::Rendezvous(const LaunchEnvironment& environment, std::chrono::milliseconds timeout,
                       c10::Device device)
    : state_(std::make_unique<State>(State{environment, {}, timeout, device})) {
  if (environment.size == 1) return;
  require_known(environment.address);
  try {
    c10d::TCPStoreOptions options;
    options.port = environment.port;
    options.isServer = environment.rank == 0 && !environment.served;
    options.waitWorkers = !environment.served;
    options.numWorkers = environment.size;
    options.timeout = timeout;
    state_->store = c10::make_intrusive<c10d::TCPStore>(environment.address, options);
  } catch (const std::exception& error) {
    if (std::string(error.what()).find("EADDRINUSE") != std::string::npos)
      throw InputError(util::concat("MASTER_PORT: found ", environment.port,
                                    ", on which somebody listens already, expected a free port"));
    throw comm_error(util::concat("meeting at ", environment.address, ":", environment.port),
                     environment.rank, environment.size, error);
  }
}

int64_t Rendezvous::rank() const {
  return state_->environment.rank;
}
int64_t Rendezvous::size() const {
  return state_->environment.size;
}

Group Rendezvous::all(Urgency urgency) {
  return state_->make(state_->next_name(), rank(), size(), urgency);
}

Group Rendezvous::split(int64_t color, Urgency urgency) {
  const std::string name = state_->next_name(), own_color = std::to_string(color);
  std::vector<int64_t> members;
  if (size() == 1) return {};
  try {
    c10d::Store& store = *state_->store;
    const auto key = [&](int64_t rank) { return util::concat(name, "/color/", rank); };
    store.set(key(rank()), std::vector<uint8_t>(own_color.begin(), own_color.end()));
    for (int64_t r = 0; r < size(); ++r) {
      const auto theirs = store.get(key(r));
      if (std::string(theirs.begin(), theirs.end()) == own_color) members.push_back(r);
    }
  } catch (const std::exception& error) {
    throw comm_error("forming groups", rank(), size(), error);
  }
  const auto own = std::find(members.begin(), members.end(), rank()) - members.begin();
  return state_->make(util::concat(name, "/", color), own, static_cast<int64_t>(members.size()),
                      urgency);
}

void Rendezvous::agree(const std::vector<std::pair<std::string, std::string>>& facts) {
  if (size() == 1) return;
  const std::string name = state_->next_name() + "/agree/";
  c10d::Store& store = *state_->store;
  std::string wrong;
  try {
    const std::string own = nlohmann::json(facts).dump();
    store.set(name + std::to_string(rank()), std::vector<uint8_t>(own.begin(), own.end()));
    for (int64_t r = 0; r < size() && wrong.empty(); ++r) {
      const auto bytes = store.get(name + std::to_string(r));
      const auto theirs = nlohmann::json::parse(bytes.begin(), bytes.end())
                              .get<std::vector<std::pair<std::string, std::string>>>();
      for (size_t i = 0; i < std::min(facts.size(), theirs.size()) && wrong.empty(); ++i)
        if (theirs[i] != facts[i])
          wrong = util::concat("rank ", r, ": ", theirs[i].first, ": found ", theirs[i].second,
                               ", expected ", facts[i].second, " as rank ", rank(), " has");
    }
    // Rank 0 may keep the store: it stays until the others have read.
    store.add(name + "read", 1);
    const auto until = Clock::now() + std::chrono::seconds(5);
    while (!wrong.empty() && rank() == 0 && store.add(name + "read", 0) < size() &&
           Clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  } catch (const std::exception& error) {
    throw comm_error("comparing what the ranks run", rank(), size(), error);
  }
  if (!wrong.empty()) throw InputError(wrong);
}

void Rendezvous::threads(int64_t size, const std::function<void(Rendezvous&)>& rank,
                         std::chrono::milliseconds timeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(timeout);
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
