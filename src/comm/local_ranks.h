// Ranks as processes on this machine.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/emulated_link.h"

namespace farskip::comm {

struct LocalRanks {
  int64_t count = 1;
  std::vector<std::string> command;  ///< program and its arguments, the same for every rank
  /// How long the others may go on after the first failure (they notice the lost peer themselves
  /// and say so), and how long after being asked to stop before they are killed.
  std::chrono::milliseconds notice = std::chrono::seconds(10);
  std::chrono::milliseconds grace = std::chrono::seconds(5);
  std::optional<LinkRate> link;  ///< puts an emulated network between the ranks
  /// Keeps every rank to its share of the processors, where there are as many as ranks: threads
  /// that move between the ranks' processors slow both down.
  bool bind = true;
};

/// Starts the ranks with torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
/// MASTER_ADDR, MASTER_PORT on a free port; OMP_NUM_THREADS, where it is not set, shares the cores
/// out), in place of another launcher's. Rank 0 has this process's stdout; all else that they print
/// goes to stderr, `[rank] ` before each line. Forwards SIGINT, SIGTERM and SIGHUP, and waits for
/// all. They end when this process does. Returns 0, or the exit status of the rank that
/// failed first (128 + the signal's number if one killed it). With a link every rank is in a
/// network namespace of its own, MASTER_ADDR and GLOO_SOCKET_IFNAME are of the EmulatedNetwork
/// (which moves this process too), and FARSKIP_LINK is the rate as given. Call from a
/// single-threaded program. Error where a process cannot be started; InputError where the machine
/// cannot emulate a network.
int run_local_ranks(const LocalRanks& ranks);

}  // namespace farskip::comm
