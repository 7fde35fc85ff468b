// Where ranks meet.
#pragma once
#include <c10/core/Device.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/backend.h"
#include "comm/group.h"
#include "comm/launch_environment.h"

namespace farskip::comm {

/// Makes groups. Every rank makes the same groups in the same order.
class Rendezvous {
 public:
  /// A single process makes groups of one. Others meet at the address of rank 0. `timeout` is how
  /// long a rank waits for the others, here and in every collective. Groups carry tensors on the
  /// CPU (Gloo) and on `device` (NCCL). CommError where the others do not come, naming the address.
  explicit Rendezvous(const LaunchEnvironment& environment,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60),
                      c10::Device device = c10::kCPU);
  ~Rendezvous();

  /// Ranks as threads of this process, for tests: runs `rank(rendezvous)` on `size` threads, with
  /// gradients off or on as the caller has them, and rethrows the first failure.
  static void threads(int64_t size, const std::function<void(Rendezvous&)>& rank,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60));

  int64_t rank() const;
  int64_t size() const;

  /// The group of all ranks.
  Group all(Urgency urgency = Urgency::now);
  /// One of the groups that ranks with the same `color` form, ordered by rank.
  Group split(int64_t color, Urgency urgency = Urgency::now);

  /// Facts that every rank must have alike (build, configuration, layout, checkpoint), each a name
  /// and a value. InputError, on every rank, that names a rank, the fact, and both values, unless
  /// all ranks have those of rank 0.
  void agree(const std::vector<std::pair<std::string, std::string>>& facts);

 private:
  struct State;
  explicit Rendezvous(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace farskip::comm
