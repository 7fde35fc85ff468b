// What the forward passes of an engine did, while it runs.
#pragma once
#include <map>
#include <mutex>
#include <optional>

#include "engine/step_observer.h"
#include "measure/timeline.h"
#include "model/expert_exchange.h"

namespace farskip::measure {

/// Sums over all passes since the beginning.
struct StepTotals {
  int64_t ranks = 1;   ///< that make the passes
  double seconds = 0;  ///< that they took
  comm::Traffic all;
  /// Where messages of several kinds were in flight together, the time counts for each.
  std::map<comm::MessageName::Part, comm::Traffic> by_message;
};

/// A pass as a picture.
struct RecordedStep {
  Timeline timeline;
  int64_t number = 0;  ///< of all passes, from 1
  int64_t sequences = 0, tokens = 0;
};

/// Of one rank, as it measures its own passes. Messages are always recorded; parts, and pictures,
/// for a while after somebody has asked for one. The engine's thread tells it, any thread asks.
class StepRecorder final : public engine::StepObserver {
 public:
  enum class Kind { prefill, decode };  ///< whether a pass has several tokens of a sequence

  /// `ranks`: what the passes run with; nobody else records their messages.
  explicit StepRecorder(model::ExpertRanks ranks = {});
  ~StepRecorder() override;

  schedule::PartLog* begin_step() override;
  void end_step(int64_t sequences, int64_t tokens) override;

  StepTotals totals() const;
  /// The last one of the kind since somebody began to ask. Who asks again within ten seconds
  /// keeps the pictures coming.
  std::optional<RecordedStep> last(Kind kind);

 private:
  void record(comm::MessageLog* log) const;

  const model::ExpertRanks ranks_;
  // Of the pass that runs, the engine's thread's:
  comm::MessageLog messages_;
  schedule::PartLog parts_;
  bool drawn_ = false;
  comm::Clock::time_point start_;
  // Everybody's, under the mutex:
  mutable std::mutex mutex_;
  int64_t steps_ = 0;
  StepTotals totals_;
  comm::Clock::time_point asked_;
  std::map<Kind, RecordedStep> last_;
};

}  // namespace farskip::measure
