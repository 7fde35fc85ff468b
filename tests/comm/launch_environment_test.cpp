#include "comm/launch_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "util/error.h"

namespace farskip::comm {
namespace {

using Variables = std::map<std::string, std::string>;

LaunchEnvironment found_in(const Variables& variables) {
  return launch_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(LaunchEnvironment, IsReadFromEveryLauncher) {
  struct Case {
    Variables variables;
    LaunchEnvironment expected;
  };
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
      {{{"OMPI_COMM_WORLD_RANK", "1"},
        {"OMPI_COMM_WORLD_SIZE", "2"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
       {1, 2, 1, "127.0.0.1", 29500, "mpirun"}},
      {{{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MASTER_ADDR", "a"}},
       {0, 2, 0, "a", 29500, "mpirun"}},
      {{{"SLURM_PROCID", "5"},
        {"SLURM_NTASKS", "8"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"},
        {"SLURM_JOB_ID", "123456"}},
       {5, 8, 1, "10.0.0.1", 20000 + 123456 % 20000, "slurm"}},
  };
  for (const Case& c : cases) {
    const LaunchEnvironment found = found_in(c.variables);
    SCOPED_TRACE(c.expected.launcher + c.expected.address);
    EXPECT_EQ(found.rank, c.expected.rank);
    EXPECT_EQ(found.size, c.expected.size);
    EXPECT_EQ(found.local_rank, c.expected.local_rank);
    EXPECT_EQ(found.address, c.expected.address);
    EXPECT_EQ(found.port, c.expected.port);
    EXPECT_EQ(found.launcher, c.expected.launcher);
    EXPECT_EQ(found.served, c.expected.served);
    EXPECT_EQ(found.attempt, c.expected.attempt);
  }
}

TEST(LaunchEnvironment, RefusesByNameWhatContradictsItself) {
  const std::vector<std::pair<Variables, std::string>> cases = {
      {{{"RANK", "0"}}, "RANK without WORLD_SIZE"},
      {{{"WORLD_SIZE", "2"}}, "WORLD_SIZE without RANK"},
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}}, "RANK: found 2, expected a number from 0 to 1"},
      {{{"RANK", "x"}, {"WORLD_SIZE", "2"}}, "RANK: found x"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "WORLD_SIZE: found 0"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "RANK: found -1"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}}, "MASTER_ADDR: found nothing"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", ""}}, "MASTER_ADDR: found nothing"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "70000"}},
       "MASTER_PORT: found 70000"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}}, "LOCAL_RANK: found 1"},
      {{{"OMPI_COMM_WORLD_RANK", "0"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
       "MASTER_ADDR: found nothing"},
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
