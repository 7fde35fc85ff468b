#include "train/run_directory.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "io/atomic_file.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

std::string name_of(int64_t step) {
  return util::concat("step-", step);
}

std::string partial_name(int64_t step) {
  return name_of(step) + ".partial";
}

/// The number of "step-N", or nothing.
std::optional<int64_t> step_of(const std::string& name) {
  if (name.rfind("step-", 0) != 0 || name.size() == 5 || name.size() > 20 ||
      name.find_first_not_of("0123456789", 5) != std::string::npos)
    return std::nullopt;
  return std::stoll(name.substr(5));
}

/// Flushes the files of a folder, so that its rename can't come before their bytes.
void sync_tree(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_directory()) io::sync_folder(entry.path());
  io::sync_folder(folder);
}

}  // namespace

RunDirectory::RunDirectory(fs::path out, bool resume, const comm::Group& world)
    : out_(std::move(out)), world_(world) {
  const bool there = latest().has_value();
  util::require(there || !fs::exists(out_ / "config.json"), out_.string(), "a model",
                "a new folder, or that of a run to --resume");
  util::require(resume || !there, out_.string(), "a run that was begun before",
                "a new folder, or --resume to go on with it");
  util::require(!resume || there, out_.string(), "no checkpoint to resume from",
                "the folder of a run that has saved one");
  world_.barrier("looking at --out");
  if (world_.rank() == 0) make();
  world_.barrier("making --out");
}

void RunDirectory::make() {
  std::error_code failed;
  fs::create_directories(folder(), failed);
  if (failed)
    throw InputError(util::concat(out_.string(), ": found a place that can't be written to (",
                                  failed.message(), "), expected a folder"));
  for (const auto& entry : fs::directory_iterator(folder()))
    if (entry.path().extension() == ".partial") fs::remove_all(entry.path());
}

std::optional<fs::path> RunDirectory::pointed(const char* name) const {
  const fs::path file = folder() / name;
  if (!fs::exists(file)) return std::nullopt;
  std::string target = io::read_file(file, 4096);
  target.erase(target.find_last_not_of(" \n") + 1);
  util::require(step_of(target).has_value() && fs::is_directory(folder() / target), file.string(),
                io::in_quotes(target), "the name of a checkpoint beside it");
  return folder() / target;
}

void RunDirectory::point(const char* name, int64_t step) {
  io::AtomicFile file(folder() / name);
  file.write(name_of(step) + "\n");
  file.commit();
}

fs::path RunDirectory::begin(int64_t step) {
  const fs::path partial = folder() / partial_name(step);
  if (world_.rank() == 0) {
    fs::remove_all(partial);
    fs::create_directory(partial);
  }
  world_.barrier("beginning a checkpoint");
  return partial;
}

void RunDirectory::discard(int64_t step) {
  if (world_.rank() == 0) fs::remove_all(folder() / partial_name(step));
}

void RunDirectory::commit(int64_t step, bool is_best, int64_t keep) {
  world_.barrier("writing a checkpoint");
  if (world_.rank() == 0) take_place(step, is_best, keep);
  world_.barrier("finishing a checkpoint");
}

void RunDirectory::take_place(int64_t step, bool is_best, int64_t keep) {
  const fs::path partial = folder() / partial_name(step), whole = folder() / name_of(step);
  sync_tree(partial);
  fs::remove_all(whole);  // of a run that was killed after this very rename
  fs::rename(partial, whole);
  io::sync_folder(folder());
  if (is_best) point("best", step);
  point("latest", step);
  remove_old(keep);
}

void RunDirectory::remove_old(int64_t keep) {
  std::vector<int64_t> steps;
  for (const auto& entry : fs::directory_iterator(folder()))
    if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  const auto best_one = best();
  for (size_t i = std::max<int64_t>(1, keep); i < steps.size(); ++i) {
    const fs::path old = folder() / name_of(steps[i]);
    if (best_one && *best_one == old) continue;
    // Renamed first: a half-removed checkpoint must not keep its name.
    const fs::path dying = folder() / partial_name(steps[i]);
    fs::rename(old, dying);
    fs::remove_all(dying);
  }
}

}  // namespace farskip::train
