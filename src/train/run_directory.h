// What a training run leaves on disk, so that it can be killed at any moment and go on.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace farskip::train {

/// OUT/checkpoints/step-N/ are whole checkpoints (made beside as step-N.partial, then renamed);
/// OUT/checkpoints/latest and OUT/checkpoints/best name two of them, each replaced in one rename.
class RunDirectory {
 public:
  /// Makes the folder. InputError if it can't be made, holds a model that is no run's, holds a run
  /// already and `resume` is false, or holds none and it is true. Partial checkpoints of a killed
  /// run are removed.
  RunDirectory(std::filesystem::path out, bool resume);

  const std::filesystem::path& out() const { return out_; }
  std::filesystem::path metrics_file() const { return out_ / "metrics.jsonl"; }
  std::filesystem::path plot_file() const { return out_ / "loss.svg"; }

  std::optional<std::filesystem::path> latest() const { return pointed("latest"); }
  std::optional<std::filesystem::path> best() const { return pointed("best"); }

  /// An empty folder for the checkpoint of a step, to be filled and then committed.
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
  void remove_old(int64_t keep);

  std::filesystem::path out_;
};

}  // namespace farskip::train
