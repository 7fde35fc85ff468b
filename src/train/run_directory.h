// What a training run leaves on disk, so that it can be killed at any moment and go on.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/group.h"

namespace farskip::train {

/// OUT/checkpoints/step-N/ are whole checkpoints (made beside as step-N.partial, then renamed);
/// OUT/checkpoints/latest and OUT/checkpoints/best name two of them, each replaced in one rename.
class RunDirectory {
 public:
  /// Makes the folder. InputError if it can't be made, holds a model that is no run's, holds a run
  /// already and `resume` is false, or holds none and it is true. Partial checkpoints of a killed
  /// run are removed.
  /// Ranks of one run each have one, over a folder that all of them see; rank 0 does the work.
  RunDirectory(std::filesystem::path out, bool resume, const comm::Group& world = {});

  const std::filesystem::path& out() const { return out_; }
  std::filesystem::path metrics_file() const { return out_ / "metrics.jsonl"; }
  std::filesystem::path plot_file() const { return out_ / "loss.svg"; }

  std::optional<std::filesystem::path> latest() const { return pointed("latest"); }
  std::optional<std::filesystem::path> best() const { return pointed("best"); }

  /// An empty folder for the checkpoint of a step, to be filled and then committed. Every rank
  /// calls this, discard() and commit().
  std::filesystem::path begin(int64_t step);
  /// Gives the folder its name and makes it the latest one, and the best if it is; then removes all
  /// but the last `keep` and the best.
  void commit(int64_t step, bool is_best, int64_t keep);
  /// Removes a begun folder.
  void discard(int64_t step);

 private:
  std::filesystem::path folder() const { return out_ / "checkpoints"; }
  std::optional<std::filesystem::path> pointed(const char* name) const;
  void point(const char* name, int64_t step);
  void make();
  void take_place(int64_t step, bool is_best, int64_t keep);
  void remove_old(int64_t keep);

  std::filesystem::path out_;
  comm::Group world_;
};

}  // namespace farskip::train
