// What a server counts, as Prometheus reads it.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "measure/step_recorder.h"

namespace farskip::serve {

/// Seconds, in buckets.
class Histogram {
 public:
  /// `bounds`: upper ends of the buckets, ascending; one more takes the rest.
  explicit Histogram(std::vector<double> bounds);
  void observe(double seconds);
  /// Its lines in Prometheus' text format, version 0.0.4.
  std::string exposition(const std::string& name, const std::string& help) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;  ///< of one bucket each, not cumulative
  double sum_ = 0;
};

/// Any thread may use it.
class Metrics {
 public:
  Metrics();

  /// An answer of an endpoint has ended.
  void request(const std::string& endpoint, int status, double seconds);
  void between_tokens(double seconds);
  void finished(const engine::Outcome& outcome);

  /// All of it, with what the engine says of itself.
  std::string exposition(const engine::EngineFigures& engine,
                         const measure::StepTotals& steps) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;  ///< by endpoint and status
  static constexpr const char* kFinishes[] = {"stop", "length", "cancelled", "failed", "aborted"};
  std::array<uint64_t, std::size(kFinishes)> finished_{};  ///< by engine::Finish
  Histogram queued_, first_token_, between_tokens_, duration_;
};

}  // namespace farskip::serve
