// What bench ttft and bench tbt say.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "measure/token_bench.h"

namespace farskip::measure {

/// One setting (batch, prompt): its variants.
struct TokenSetting {
  int64_t batch = 0, prompt = 0;
  std::vector<TokenResult> variants;
};

struct TokenReport {
  std::string figure;  ///< what is measured: "time to the first token" or "time between tokens"
  std::string link;    ///< between the ranks, as the launcher says it
  std::string layout;  ///< of the ranks
  bool own_sequences = false;  ///< a batch is that of each rank, not of all together
  int64_t ranks = 1;
  std::vector<TokenSetting> settings;

  /// {"rows": [...]}, one a variant, milliseconds, with *_spread (interquartile range).
  nlohmann::ordered_json json() const;
  /// A markdown table a setting; with one of the messages if asked for.
  std::string text(bool by_message) const;
};

}  // namespace farskip::measure
