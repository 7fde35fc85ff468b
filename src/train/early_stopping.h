// Stops a run whose score no longer gets better.
#pragma once
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

namespace farskip::train {

/// A score counts as better if it beats the best one by more than `delta`, relative to its size.
/// Scores that are not finite are never better.
class EarlyStopping {
 public:
  /// patience: evaluations in a row without a better score after which to stop; 0 = never.
  EarlyStopping(int64_t patience, double delta, bool higher_is_better)
      : patience_(patience), delta_(delta), higher_(higher_is_better) {}

  /// Takes the next score; true if it is the best so far.
  bool update(double score) {
    const double gain = best_ ? (higher_ ? score - *best_ : *best_ - score) : 0;
    const bool better = std::isfinite(score) && (!best_ || gain > delta_ * std::abs(*best_));
    if (better) best_ = score;
    waited_ = better ? 0 : waited_ + 1;
    return better;
  }
  bool stop() const { return patience_ > 0 && waited_ >= patience_; }
  std::optional<double> best() const { return best_; }

  nlohmann::json state() const {
    return {{"best", best_ ? nlohmann::json(*best_) : nlohmann::json()}, {"waited", waited_}};
  }
  void restore(const nlohmann::json& state) {
    best_.reset();
    if (!state.at("best").is_null()) best_ = state.at("best").get<double>();
    waited_ = state.at("waited").get<int64_t>();
  }

 private:
  int64_t patience_;
  double delta_;
  bool higher_;
  std::optional<double> best_;
  int64_t waited_ = 0;
};

}  // namespace farskip::train
