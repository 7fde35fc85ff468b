// The figures of a run: a line of JSON a step, and the curve drawn from them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "util/plot.h"

namespace farskip::train {

/// metrics.jsonl. Every record has "step". Append-only, but for a resumed run, which first drops
/// what came after its checkpoint.
class Metrics {
 public:
  /// Keeps the records up to `step`; later ones and a half-written last line are removed.
  Metrics(std::filesystem::path file, int64_t step);

  void append(const nlohmann::ordered_json& record);
  /// Training loss (a running mean once it is long) and validation loss over the steps.
  void draw(const std::filesystem::path& file, const std::string& title,
            const std::string& loss_name) const;

 private:
  void remember(const nlohmann::ordered_json& record);

  std::filesystem::path file_;
  util::Series training_{"training", {}, false}, validation_{"validation", {}, true};
};

}  // namespace farskip::train
