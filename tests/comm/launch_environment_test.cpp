#include "comm/launch_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "util/error.h"
#include "util/fingerprint.h"

namespace farskip::comm {
namespace {

using Variables = std::map<std::string, std::string>;

LaunchEnvironment found_in(const Variables& variables) {
  return launch_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(LaunchEnvironment, IsReadFromEveryLauncher) {
  struct Case {
    Variables variables;
    LaunchEnvironment expected;
  };
  const Variables ompi = {{"OMPI_COMM_WORLD_RANK", "1"},
                          {"OMPI_COMM_WORLD_SIZE", "2"},
                          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                          {"PMIX_RANK", "1"}};
  // As Slurm 22.05 sets them in `srun -N 4 -n 8`.
  const Variables srun = {{"SLURM_PROCID", "5"},         {"SLURM_NTASKS", "8"},
                          {"SLURM_LOCALID", "1"},        {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"},
                          {"SLURM_JOB_ID", "123456"},    {"SLURM_STEP_ID", "2"},
                          {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_STEP_NUM_NODES", "4"}};
  const uint16_t port = 20000 + (123456 + 2 * 101) % 12000;
  const auto of_job = static_cast<uint16_t>(20000 + util::fingerprint("a") % 12000);
  const std::vector<Case> cases = {
      {{}, {}},
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}}, {0, 1, 0, "", 0, "torchrun"}},
      {{{"RANK", "3"},
        {"WORLD_SIZE", "4"},
        {"LOCAL_RANK", "1"},
        {"MASTER_ADDR", "node7"},
        {"MASTER_PORT", "1234"},
        {"TORCHELASTIC_USE_AGENT_STORE", "True"},
        {"TORCHELASTIC_RESTART_COUNT", "2"}},
       {3, 4, 1, "node7", 1234, "torchrun", true, "2"}},
      // A PyTorchJob of two pods, a rank each; the same ranks on one machine.
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-master-0"}, {"PET_NNODES", "2"}},
       {1, 2, 0, "job-master-0", 29500, "torchrun"}},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", ""}},
       {1, 2, 1, "localhost", 29500, "torchrun"}},
      // torchrun in the pods of a job, and in tasks of Slurm.
      {with(srun, {{"RANK", "0"},
                   {"WORLD_SIZE", "4"},
                   {"LOCAL_RANK", "0"},
                   {"MASTER_ADDR", "a"},
                   {"PET_NNODES", "2"},
                   {"TORCHELASTIC_RUN_ID", "x"}}),
       {0, 4, 0, "a", 29500, "torchrun"}},
      {ompi, {1, 2, 1, "127.0.0.1", 29500, "mpirun"}},
      {with(ompi, {{"PMIX_NAMESPACE", "a"}}), {1, 2, 1, "127.0.0.1", of_job, "mpirun"}},
      {with(ompi, {{"RANK", ""}, {"WORLD_SIZE", ""}}), {1, 2, 1, "127.0.0.1", 29500, "mpirun"}},
      {with(ompi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                   {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                   {"SLURM_JOB_NODELIST", "node[07-08]"},
                   {"SLURM_STEP_NODELIST", "node08"}}),
       {1, 2, 0, "node07", 29500, "mpirun"}},
      {{{"MV2_COMM_WORLD_RANK", "1"},
        {"MV2_COMM_WORLD_SIZE", "2"},
        {"MV2_COMM_WORLD_LOCAL_RANK", "1"},
        {"MV2_COMM_WORLD_LOCAL_SIZE", "2"}},
       {1, 2, 1, "127.0.0.1", 29500, "mpirun"}},
      {{{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MASTER_ADDR", "a"}},
       {0, 2, 0, "a", 29500, "mpirun"}},
      {{{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}},
       {1, 2, 1, "127.0.0.1", 29500, "mpirun"}},
      {{{"PMI_RANK", "5"},
        {"PMI_SIZE", "8"},
        {"PALS_LOCAL_RANKID", "1"},
        {"PALS_RANKID", "5"},
        {"MASTER_ADDR", "x1000c0s0b0n0"}},
       {5, 8, 1, "x1000c0s0b0n0", 29500, "mpirun"}},
      {srun, {5, 8, 1, "10.0.0.1", port, "slurm"}},
      {with(srun, {{"SLURM_STEP_NODELIST", "gpu-[03,07-09]-a,x[1-2]"}}),
       {5, 8, 1, "gpu-03-a", port, "slurm"}},
      {with(srun, {{"SLURM_JOB_NODELIST", "tux[0-1]x[2-3]"}}), {5, 8, 1, "tux0x2", port, "slurm"}},
      {with(srun, {{"SLURM_STEP_NUM_NODES", "1"}}), {5, 8, 1, "127.0.0.1", port, "slurm"}},
      {with(srun, {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}}), {5, 8, 1, "10.0.0.1", port, "slurm"}},
      {with(srun, {{"PMIX_RANK", "5"}}), {5, 8, 1, "10.0.0.1", port, "slurm"}},
      {with(srun, {{"WORLD_SIZE", "8"}, {"MASTER_ADDR", "b"}}), {5, 8, 1, "b", port, "slurm"}},
      {with(srun, {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}),
       {0, 1, 0, "", 0, "slurm"}},
  };
  for (const Case& c : cases) {
    const LaunchEnvironment found = found_in(c.variables);
    SCOPED_TRACE(c.expected.launcher + " " + c.expected.address);
    EXPECT_EQ(found.rank, c.expected.rank);
    EXPECT_EQ(found.size, c.expected.size);
    EXPECT_EQ(found.local_rank, c.expected.local_rank);
    EXPECT_EQ(found.address, c.expected.address);
    EXPECT_EQ(found.port, c.expected.port);
    EXPECT_EQ(found.launcher, c.expected.launcher);
    EXPECT_EQ(found.served, c.expected.served);
    EXPECT_EQ(found.attempt, c.expected.attempt);
    EXPECT_EQ(found.note, "");
  }
}

TEST(LaunchEnvironment, WaitsForNoRanksThatNobodyStarted) {
  // As Slurm 22.05 sets them in a script of `sbatch -n 2`, and in the shell of `salloc -n 2`.
  const Variables salloc = {
      {"SLURM_JOB_ID", "2"}, {"SLURM_NTASKS", "2"}, {"SLURM_NPROCS", "2"}, {"SLURM_NNODES", "1"}};
  const Variables sbatch = with(salloc, {{"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}});
  const std::vector<std::pair<Variables, std::string>> cases = {
      {{{"RANK", "0"}}, "RANK=0 without WORLD_SIZE"},
      {{{"WORLD_SIZE", "2"}}, "WORLD_SIZE=2 without RANK"},
      {{{"WORLD_SIZE", "1"}}, ""},
      {{{"RANK", ""}, {"WORLD_SIZE", ""}}, "RANK that is empty"},
      {{{"WORLD_SIZE", ""}, {"MASTER_ADDR", ""}}, "WORLD_SIZE that is empty"},
      {{{"RANK", ""}, {"WORLD_SIZE", "2"}}, "WORLD_SIZE=2 without RANK"},
      {{{"PMI_RANK", "0"}}, "PMI_RANK=0 without PMI_SIZE"},
      {{{"OMPI_COMM_WORLD_SIZE", "2"}}, "OMPI_COMM_WORLD_SIZE=2 without"},
      {{{"PMIX_RANK", "0"}}, "PMIX_RANK=0 without"},
      {salloc, "SLURM_NTASKS=2 outside a step"},
      {sbatch, "SLURM_NTASKS=2 outside a step"},
      {{{"SLURM_JOB_ID", "2"}, {"SLURM_JOB_NUM_NODES", "3"}}, "SLURM_JOB_NUM_NODES=3 outside"},
      {{{"SLURM_JOB_ID", "2"}, {"SLURM_NTASKS", "1"}, {"SLURM_PROCID", "0"}}, ""},
      // The shell of `salloc -n 2` as a step of its own (LaunchParameters=use_interactive_step).
      {with(sbatch, {{"SLURM_STEP_ID", "4294967290"}, {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"}}),
       "SLURM_NTASKS=2 outside a step"},
      {{{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"}}, "SLURM_NTASKS=2 without SLURM_PROCID"},
      {{{"PET_NNODES", "1"}, {"PET_NPROC_PER_NODE", "8"}}, "PET_NNODES=1 without torchrun"},
      {{{"PET_NNODES", "1"}, {"RANK", "0"}, {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "a"}},
       "WORLD_SIZE=8 in PET_NNODES=1 without torchrun"},
  };
  for (const auto& [variables, note] : cases) {
    const LaunchEnvironment found = found_in(variables);
    SCOPED_TRACE(note);
    EXPECT_EQ(found.size, 1);
    EXPECT_EQ(found.launcher, "none");
    if (note.empty())
      EXPECT_EQ(found.note, "");
    else
      EXPECT_THAT(found.note, testing::HasSubstr(note));
  }
}

TEST(LaunchEnvironment, RefusesByNameWhatContradictsItself) {
  const Variables two = {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}};
  const Variables ompi = {{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}};
  const Variables srun = {
      {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}};
  const std::vector<std::pair<Variables, std::string>> cases = {
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}}, "RANK: found 2, expected a number from 0 to 1"},
      {{{"RANK", "x"}, {"WORLD_SIZE", "2"}}, "RANK: found x"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "WORLD_SIZE: found 0"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "RANK: found -1"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}}, "MASTER_ADDR: found nothing"},
      {with(two, {{"MASTER_ADDR", ""}}), "MASTER_ADDR: found nothing"},
      {with(two, {{"MASTER_PORT", "70000"}}), "MASTER_PORT: found 70000"},
      {with(two, {{"LOCAL_RANK", "1"}}), "LOCAL_RANK: found 1"},
      {ompi, "-x MASTER_ADDR"},
      {with(ompi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}}), "MASTER_ADDR: found nothing"},
      // Not alone, and of nobody knows how many.
      {{{"RANK", "1"}}, "found RANK=1 without WORLD_SIZE"},
      {{{"PMI_RANK", "3"}}, "found PMI_RANK=3 without PMI_SIZE"},
      {{{"PMIX_RANK", "1"}}, "found PMIX_RANK=1 without a number"},
      // Exported by hand, and not what was started.
      {with(srun, two), "RANK=0 of WORLD_SIZE=2 beside SLURM_PROCID=1 of SLURM_STEP_NUM_TASKS=2"},
      {with(srun, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}), "WORLD_SIZE=1 beside SLURM_PROCID=1"},
      {with(ompi, two), "beside OMPI_COMM_WORLD_RANK=1"},
      // Pods that torchrun is to start several ranks in.
      {with(two, {{"WORLD_SIZE", "16"}, {"PET_NNODES", "2"}}), "in PET_NNODES=2 without torchrun"},
      {{{"PET_NNODES", "1:4"}}, "found PET_NNODES=1:4 without torchrun"},
  };
  for (const auto& [variables, message] : cases) {
    try {
      found_in(variables);
      ADD_FAILURE() << "no error, expected " << message;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(message));
    }
  }
}

}  // namespace
}  // namespace farskip::comm
