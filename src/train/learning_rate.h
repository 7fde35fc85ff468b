// The learning rate over the steps of a run.
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>

namespace farskip::train {

/// Linear warm-up from peak / warmup to peak, then half a cosine down to `final`, which is reached
/// at `steps`. Without warm-up the first step has the peak rate.
struct LearningRate {
  double peak = 0;
  double final = 0;
  int64_t warmup = 0;  ///< steps
  int64_t steps = 0;   ///< of the whole run

  /// Of the update number `step`, counted from 0.
  double at(int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= steps) return final;
    const double progress =
        static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    return final + (peak - final) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
};

}  // namespace farskip::train
