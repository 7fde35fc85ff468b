// What Slurm says of a process, a step and a job.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "comm/launch_environment.h"

namespace farskip::comm {

/// A process that srun started as a task has rank and size, as text. The script of sbatch (it calls
/// itself task 0), salloc's shell and an interactive step have none: nobody started their tasks.
struct SlurmStep {
  std::optional<std::string> rank, size;
  std::string size_name;     ///< of the variable
  bool one_machine = false;  ///< all tasks of the step are on this node
  std::string outside;       ///< outside a step, or where half is missing: what the job asks for
};

SlurmStep slurm_step(const Lookup& lookup);

/// The first node of the step (SLURM_STEP_NODELIST), or of the job (SLURM_JOB_NODELIST), where
/// mpirun puts rank 0 whatever steps it takes: "node[01-03,07],gpu1" begins with node01.
std::optional<std::string> slurm_first_node(const Lookup& lookup, bool of_step);

/// A number that steps of this and other jobs hardly share.
std::optional<uint64_t> slurm_job(const Lookup& lookup);

}  // namespace farskip::comm
