// Who this process is among its ranks, from the environment that its launcher has set.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace farskip::comm {

struct LaunchEnvironment {
  int64_t rank = 0;
  int64_t size = 1;
  int64_t local_rank = 0;  ///< on this machine
  std::string address;     ///< of rank 0; empty for a single process
  uint16_t port = 0;
  std::string launcher = "none";  ///< torchrun, mpirun, slurm or none
  bool served = false;  ///< the launcher itself serves the meeting point (torchrun's agent)
  std::string attempt =
      "0";  ///< torchrun's count of restarts: ranks of another attempt do not meet
};

using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

/// torchrun (RANK, WORLD_SIZE, LOCAL_RANK), Open MPI (OMPI_COMM_WORLD_*), MPICH and Intel MPI
/// (PMI_*) and Slurm (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID), the first that is there, in this
/// order; a single process where none is. Rank 0 is met at MASTER_ADDR and MASTER_PORT: torchrun
/// sets them; without, a Slurm job takes the address of its launching node
/// (SLURM_LAUNCH_NODE_IPADDR) and a port made of its job number, an mpirun on one machine
/// 127.0.0.1, and both port 29500 else. InputError for half an environment or numbers that
/// contradict each other.
LaunchEnvironment launch_environment(const Lookup& lookup);
/// Of this process.
LaunchEnvironment launch_environment();

}  // namespace farskip::comm
