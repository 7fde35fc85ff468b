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
  /// Why this process runs alone although the environment speaks of ranks, one line; else empty.
  std::string note;
};

using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

/// torchrun (RANK, WORLD_SIZE, LOCAL_RANK), Open MPI (OMPI_COMM_WORLD_*), MVAPICH
/// (MV2_COMM_WORLD_*), MPICH, Intel MPI and Cray (PMI_*), and a step of Slurm (SLURM_PROCID,
/// SLURM_STEP_NUM_TASKS, SLURM_LOCALID), the first that is whole, in this order. An empty variable
/// counts as absent. Ranks that nobody started are not waited for: half an environment, a Slurm job
/// outside its steps and the one pod of a PyTorchJob without torchrun make a single process, with a
/// note.
///
/// Rank 0 is met at MASTER_ADDR and MASTER_PORT. Without: 127.0.0.1 where all ranks are on one
/// machine, else the first node of a Slurm job; a port from 20000 on made of the job's and step's
/// number or of Open MPI's name of the job, else 29500. Without LOCAL_RANK and its like, ranks
/// that meet on their own machine are all there, and others alone on theirs.
///
/// InputError for a rank above 0 of nobody knows how many, for numbers that contradict each other
/// or what another launcher started, and where nothing says where rank 0 is.
LaunchEnvironment launch_environment(const Lookup& lookup);
/// Of this process.
LaunchEnvironment launch_environment();

/// Removes what launchers say of ranks from this process's environment.
void clear_launch_environment();

}  // namespace farskip::comm
