// What bench train says.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "measure/step_bench.h"

namespace farskip::measure {

/// "none", "own", "all".
std::string to_string(Update update);

/// One setting (batch, sequence): its variants and what holds for all of them.
struct StepSetting {
  int64_t batch = 0, sequence = 0;
  std::vector<VariantResult> variants;
};

class StepReport {
 public:
  std::string link;  ///< between the ranks, as the launcher says it
  int64_t ranks = 1;
  Update update = Update::own;

  void add(int64_t batch, int64_t sequence, std::vector<VariantResult> results);
  const std::vector<StepSetting>& settings() const { return settings_; }

  /// {"rows": [...]}, one a variant, milliseconds, with *_spread (interquartile range).
  nlohmann::ordered_json json() const;
  /// Markdown tables, with one of the layers if asked for.
  std::string text(bool by_layer) const;

 private:
  std::vector<StepSetting> settings_;
};

/// What the step of the converted model should take, in seconds, by what the method says of each
/// layer's window (arXiv 2511.11505, eq. 9: T_dispatch + T_combine <= T_layer - (T_routed +
/// T_gate)), from measured compute and messages: the bound and, in forward, what of each layer's
/// messages exceeds its window; in backward the weight gradients are part of the window, of all
/// layers together.
double predicted_time(const StepSetting& setting);

}  // namespace farskip::measure
