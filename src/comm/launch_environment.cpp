#include "comm/launch_environment.h"

#include <charconv>
#include <cstdlib>
#include <vector>

#include "comm/slurm.h"
#include "util/error.h"
#include "util/fingerprint.h"

namespace farskip::comm {
namespace {

using util::concat;

constexpr int64_t kMostLaunched = 1 << 20;
constexpr uint16_t kDefaultPort = 29500;  // torchrun's
constexpr const char* kStarters = "torchrun, mpirun, srun or `farskip launch`";

/// The names that one launcher gives to rank, number of ranks, and both on the machine.
struct Names {
  const char *launcher, *rank, *size;
  std::vector<const char*> local_rank, local_size;
};
const Names kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", {"LOCAL_RANK"}, {"LOCAL_WORLD_SIZE"}},
    {"mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     {"OMPI_COMM_WORLD_LOCAL_RANK"},
     {"OMPI_COMM_WORLD_LOCAL_SIZE"}},
    {"mpirun",
     "MV2_COMM_WORLD_RANK",
     "MV2_COMM_WORLD_SIZE",
     {"MV2_COMM_WORLD_LOCAL_RANK"},
     {"MV2_COMM_WORLD_LOCAL_SIZE"}},
    {"mpirun",
     "PMI_RANK",
     "PMI_SIZE",
     {"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID"},
     {"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE"}},
};
/// Ranks of which only another row says how many there are.
constexpr const char* kRankAlone[] = {"PMIX_RANK", "PALS_RANKID"};
/// What else `farskip launch` must not hand on.
constexpr const char* kOthers[] = {"SLURM_PROCID",
                                   "SLURM_NTASKS",
                                   "SLURM_STEP_NUM_TASKS",
                                   "PET_NNODES",
                                   "TORCHELASTIC_RUN_ID",
                                   "TORCHELASTIC_USE_AGENT_STORE",
                                   "TORCHELASTIC_RESTART_COUNT"};

int64_t number(const std::string& name, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  util::require(whole && value >= least && value <= most, "environment: " + name, text,
                concat("a number from ", least, " to ", most));
  return value;
}

/// What one launcher says of this process.
struct Place {
  std::string launcher;
  std::string names[2];  ///< of rank and size
  int64_t rank = 0, size = 1;
  std::optional<int64_t> local_rank;
  bool one_machine = false;  ///< all ranks are on this one

  bool is_vaguely(const Place& other) const {
    return !local_rank && rank == other.rank && size == other.size;
  }
  std::string text() const { return concat(names[0], "=", rank, " of ", names[1], "=", size); }
};

/// What was found, and what stands in the way of ranks.
struct Found {
  std::vector<Place> places;
  std::string halves;       ///< what does not make a place, for people
  bool is_another = false;  ///< a half is a rank above 0: this process is not alone

  void add_half(const std::string& text) { halves += (halves.empty() ? "" : ", ") + text; }
};

std::optional<std::string> first_of(const Lookup& lookup, const std::vector<const char*>& names) {
  for (const char* name : names)
    if (auto value = lookup(name)) return value;
  return std::nullopt;
}

/// `raw` tells empty variables from absent ones.
void find(const Names& names, const Lookup& lookup, const Lookup& raw, Found& found) {
  const auto rank = lookup(names.rank), size = lookup(names.size);
  if (!rank || !size) {
    if (rank) found.add_half(concat(names.rank, "=", *rank, " without ", names.size));
    if (rank && *rank != "0") found.is_another = true;
    if (size && *size != "1")
      found.add_half(concat(names.size, "=", *size, " without ", names.rank));
    if (!rank && !size && (raw(names.rank) || raw(names.size)))
      found.add_half(concat(raw(names.rank) ? names.rank : names.size, " that is empty"));
    return;
  }
  Place place{names.launcher, {names.rank, names.size}};
  place.size = number(names.size, *size, 1, kMostLaunched);
  place.rank = number(names.rank, *rank, 0, place.size - 1);
  for (const char* name : names.local_rank)
    if (const auto local = lookup(name); local && !place.local_rank)
      place.local_rank = number(name, *local, 0, place.rank);
  place.one_machine = first_of(lookup, names.local_size) == size;
  found.places.push_back(place);
}

void find_slurm(const Lookup& lookup, Found& found) {
  const SlurmStep step = slurm_step(lookup);
  if (step.rank && step.size) {
    Place place{"slurm", {"SLURM_PROCID", step.size_name}};
    place.size = number(step.size_name, *step.size, 1, kMostLaunched);
    place.rank = number("SLURM_PROCID", *step.rank, 0, place.size - 1);
    if (const auto local = lookup("SLURM_LOCALID"))
      place.local_rank = number("SLURM_LOCALID", *local, 0, place.rank);
    place.one_machine = step.one_machine;
    // What srun's own PMI says, or somebody exported, may say nothing of the machine.
    if (!found.places.empty() && found.places.front().is_vaguely(place))
      found.places.front() = place;
    else
      found.places.push_back(place);
  } else if (!step.outside.empty()) {
    found.add_half(step.outside);
  }
}

/// Kubernetes' pods are told of torchrun's ranks before torchrun has started any.
void check_pods(const Lookup& lookup, Found& found) {
  const auto pods = lookup("PET_NNODES");
  if (!pods) return;
  const std::string most = pods->substr(pods->rfind(':') + 1);  // "1:4": from one to four
  const int64_t count = number("PET_NNODES", most, 1, kMostLaunched);
  const bool told = !found.places.empty() && found.places.front().launcher == "torchrun";
  if (told && found.places.front().size <= count) return;  // a rank is a pod
  const std::string what = concat(told ? found.places.front().text() + " in " : "",
                                  "PET_NNODES=", *pods, " without torchrun");
  util::require(count == 1, "environment", what, "`torchrun --no-python farskip ...` in each pod");
  if (!told && lookup("PET_NPROC_PER_NODE").value_or("1") == "1") return;
  if (told) found.places.erase(found.places.begin());
  found.add_half(what);
}

/// Ranks that somebody exported by hand must be those that a launcher started.
void check_mix(const std::vector<Place>& places) {
  if (places.empty() || places.front().launcher != "torchrun") return;
  const Place& told = places.front();
  for (const Place& started : places) {
    const bool fits =
        started.size < told.size || (started.size == told.size && started.rank == told.rank);
    util::require(
        fits, "environment", concat(told.text(), " beside ", started.text()),
        concat("the same of both, or one of them (", started.launcher, " started this process)"));
  }
}

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

std::string address_of(const Place& place, const Lookup& lookup) {
  if (const auto address = lookup("MASTER_ADDR")) return *address;
  if (place.one_machine) return "127.0.0.1";
  if (place.launcher != "torchrun")
    if (const auto node = slurm_first_node(lookup, place.launcher == "slurm")) return *node;
  if (const auto node = lookup("SLURM_LAUNCH_NODE_IPADDR"); node && place.launcher == "slurm")
    return *node;
  const std::string how = place.launcher == "mpirun"
                              ? "`mpirun -x MASTER_ADDR=...`, or `-genv MASTER_ADDR ...` of MPICH"
                              : "torchrun sets it; `farskip launch` starts ranks on one machine";
  throw InputError(concat("environment: MASTER_ADDR: found nothing, expected the address of rank ",
                          "0, for ", place.size, " ranks under ", place.launcher, " (", how, ")"));
}

/// A job's own, so that two jobs of one machine do not meet, below those that the kernel gives out.
uint16_t port_of(const Place& place, const Lookup& lookup) {
  if (const auto port = lookup("MASTER_PORT"))
    return static_cast<uint16_t>(number("MASTER_PORT", *port, 1, 65535));
  if (place.launcher == "torchrun") return kDefaultPort;
  const auto from = [](uint64_t job) { return static_cast<uint16_t>(20000 + job % 12000); };
  if (const auto name = lookup("PMIX_NAMESPACE"); name && place.launcher == "mpirun")
    return from(util::fingerprint(*name));
  const auto job = slurm_job(lookup);
  return job ? from(*job) : kDefaultPort;
}

}  // namespace

LaunchEnvironment launch_environment(const Lookup& raw) {
  const Lookup lookup = [&](const std::string& name) {
    auto value = raw(name);
    return value && value->empty() ? std::nullopt : value;
  };
  Found found;
  for (const Names& names : kLaunchers) find(names, lookup, raw, found);
  find_slurm(lookup, found);
  if (!lookup("TORCHELASTIC_RUN_ID")) {
    check_pods(lookup, found);
    check_mix(found.places);
  }
  if (found.places.empty())
    for (const char* name : kRankAlone)
      if (const auto rank = lookup(name)) {
        found.add_half(concat(name, "=", *rank, " without a number of ranks"));
        found.is_another = found.is_another || *rank != "0";
      }

  LaunchEnvironment result;
  if (found.places.empty()) {
    util::require(!found.is_another, "environment", found.halves,
                  concat("rank and number of ranks, as ", kStarters, " set them"));
    if (!found.halves.empty())
      result.note = concat("environment: found ", found.halves, "; this process runs alone (",
                           kStarters, " start ranks)");
    return result;
  }
  const Place& place = found.places.front();
  result.launcher = place.launcher;
  result.rank = place.rank;
  result.size = place.size;
  result.local_rank = place.local_rank.value_or(0);
  if (place.size == 1) return result;
  result.served = lookup("TORCHELASTIC_USE_AGENT_STORE") == "True";
  result.attempt = lookup("TORCHELASTIC_RESTART_COUNT").value_or("0");
  result.address = address_of(place, lookup);
  result.port = port_of(place, lookup);
  if (!place.local_rank && (place.one_machine || is_loopback(result.address)))
    result.local_rank = place.rank;
  return result;
}

LaunchEnvironment launch_environment() {
  return launch_environment([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

void clear_launch_environment() {
  for (const Names& names : kLaunchers) {
    for (const char* name : {names.rank, names.size}) unsetenv(name);
    for (const char* name : names.local_rank) unsetenv(name);
    for (const char* name : names.local_size) unsetenv(name);
  }
  for (const char* name : kRankAlone) unsetenv(name);
  for (const char* name : kOthers) unsetenv(name);
}

}  // namespace farskip::comm
