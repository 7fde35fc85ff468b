#include "comm/slurm.h"

#include <charconv>

#include "util/error.h"

namespace farskip::comm {
namespace {

using util::concat;

/// From here on step numbers stand for what is no step of tasks: a script, an interactive shell.
constexpr uint64_t kReservedSteps = 0xfffffff0;

std::optional<std::string> either(const Lookup& lookup, const char* name, const char* old_name) {
  auto value = lookup(name);
  return value ? value : lookup(old_name);
}

uint64_t number(const std::string& text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// "node[01-03,07],gpu1" -> "node01"; several brackets each give their first number.
std::string first_name(const std::string& list) {
  std::string name;
  bool inside = false, taken = false;  // a bracket; the first number in it
  for (const char c : list) {
    if (c == '[') {
      inside = true;
      taken = false;
    } else if (c == ']') {
      inside = false;
    } else if (c == ',' && !inside) {
      break;
    } else if (inside && (c == '-' || c == ',')) {
      taken = true;
    } else if (!inside || !taken) {
      name += c;
    }
  }
  return name;
}

}  // namespace

SlurmStep slurm_step(const Lookup& lookup) {
  SlurmStep step;
  const auto id = either(lookup, "SLURM_STEP_ID", "SLURM_STEPID");
  const bool inside =
      id ? number(*id) < kReservedSteps : lookup("SLURM_LAUNCH_NODE_IPADDR").has_value();
  const auto rank = lookup("SLURM_PROCID");
  for (const char* name : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"}) {
    if (step.size || !inside) break;
    step.size = lookup(name);
    step.size_name = name;
  }
  if (inside && rank && step.size) {
    step.rank = rank;
    const auto nodes = either(lookup, "SLURM_STEP_NUM_NODES", "SLURM_NNODES");
    step.one_machine = nodes == "1";
    return step;
  }
  for (const char* name : {"SLURM_NTASKS", "SLURM_JOB_NUM_NODES"})
    if (const auto value = lookup(name); value && *value != "1" && step.outside.empty())
      step.outside =
          concat(name, "=", *value, inside ? " without SLURM_PROCID" : " outside a step");
  return step;
}

std::optional<std::string> slurm_first_node(const Lookup& lookup, bool of_step) {
  const auto list =
      either(lookup, of_step ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST", "SLURM_JOB_NODELIST");
  if (!list) return std::nullopt;
  return first_name(*list);
}

std::optional<uint64_t> slurm_job(const Lookup& lookup) {
  const auto job = either(lookup, "SLURM_JOB_ID", "SLURM_JOBID");
  if (!job) return std::nullopt;
  const auto step = either(lookup, "SLURM_STEP_ID", "SLURM_STEPID");
  return number(*job) + 101 * (step ? number(*step) : 0);
}

}  // namespace farskip::comm
