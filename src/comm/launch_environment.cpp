#include "comm/launch_environment.h"

#include <charconv>
#include <cstdlib>

#include "util/error.h"

namespace farskip::comm {
namespace {

constexpr uint16_t kDefaultPort = 29500;  // torchrun's

/// The names that one launcher gives to rank, number of ranks and rank on the machine.
struct Names {
  const char *launcher, *rank, *size, *local_rank;
};
constexpr Names kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"},
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {"slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
};

int64_t number(const std::string& name, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  util::require(whole && value >= least && value <= most, "environment: " + name, text,
                util::concat("a number from ", least, " to ", most));
  return value;
}

/// A job's own port, so that two jobs of one machine do not meet.
uint16_t slurm_port(const Lookup& lookup) {
  const auto job = lookup("SLURM_JOB_ID");
  return job ? static_cast<uint16_t>(20000 + number("SLURM_JOB_ID", *job, 0, INT64_MAX) % 20000)
             : kDefaultPort;
}

}  // namespace

LaunchEnvironment launch_environment(const Lookup& lookup) {
  constexpr int64_t kMostRanks = 1 << 20;
  LaunchEnvironment found;
  for (const Names& names : kLaunchers) {
    const auto rank = lookup(names.rank), size = lookup(names.size);
    if (!rank && !size) continue;
    util::require(
        rank && size, util::concat("environment of ", names.launcher),
        util::concat(rank ? names.rank : names.size, " without ", rank ? names.size : names.rank),
        "both or neither");
    found.launcher = names.launcher;
    found.size = number(names.size, *size, 1, kMostRanks);
    found.rank = number(names.rank, *rank, 0, found.size - 1);
    const auto local = lookup(names.local_rank);
    found.local_rank = local ? number(names.local_rank, *local, 0, found.rank) : found.rank;
    break;
  }
  if (found.size == 1) return found;
  found.served = lookup("TORCHELASTIC_USE_AGENT_STORE") == "True";
  found.attempt = lookup("TORCHELASTIC_RESTART_COUNT").value_or("0");

  const auto address = lookup("MASTER_ADDR"), port = lookup("MASTER_PORT");
  if (address && !address->empty()) {
    found.address = *address;
  } else if (found.launcher == "slurm" && lookup("SLURM_LAUNCH_NODE_IPADDR")) {
    found.address = *lookup("SLURM_LAUNCH_NODE_IPADDR");
  } else {
    const bool one_machine = found.launcher == "mpirun" &&
                             lookup("OMPI_COMM_WORLD_LOCAL_SIZE") == lookup("OMPI_COMM_WORLD_SIZE");
    util::require(
        one_machine, "environment: MASTER_ADDR", "nothing",
        util::concat("the address of rank 0, for ", found.size, " ranks under ", found.launcher));
    found.address = "127.0.0.1";
  }
  found.port = port ? static_cast<uint16_t>(number("MASTER_PORT", *port, 1, 65535))
               : found.launcher == "slurm" ? slurm_port(lookup)
                                           : kDefaultPort;
  return found;
}

LaunchEnvironment launch_environment() {
  return launch_environment([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

}  // namespace farskip::comm
