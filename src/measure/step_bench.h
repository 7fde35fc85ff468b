// Training steps of one model in several executions, in turn, and what became of every message.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "comm/grid.h"
#include "measure/timeline.h"
#include "measure/variant.h"
#include "model/model.h"
#include "model/synthetic_routes.h"

namespace farskip::measure {

struct StepBenchOptions {
  int64_t batch = 1;  ///< sequences a rank
  int64_t sequence = 512;
  int64_t micro_batches = 1;  ///< in a step; weight gradients of one may fill waits of the next
  /// In overlapped executions over the network, forward passes run beside the backward passes of
  /// the micro-batches before (see schedule::run_micro_batches).
  bool interleave = false;
  int64_t rounds = 5, warmup = 1;
  int64_t queue_bytes = int64_t{256} << 20;  ///< of weight gradients that fill waits
  model::Routing routing = model::Routing::real;
  model::Connectivity converted;
  std::optional<at::ScalarType> wire;  ///< see model::ExpertRanks
  int64_t waves = 1;                   ///< of overlapped executions (see model::ExpertRanks)
  model::Combine combine = model::Combine::expert;
  uint64_t seed = 0;
  /// One more step of every variant, whose timeline is kept; else only of the bound.
  bool traced = false;
};

/// Seconds, means over the ranks.
struct DirectionFigures {
  double time = 0;
  double communication = 0;  ///< from launch to arrival, summed over the messages
  double exposed = 0;        ///< of that, while the compute thread stood waiting
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 1; }
};

/// One step. Forward is all up to x_L; head, loss and everything after count as backward.
struct StepFigures {
  double time = 0;  ///< of the slowest rank
  DirectionFigures forward, backward;
  std::map<int64_t, DirectionFigures> forward_by_layer, backward_by_layer;  ///< time is not set
  double megabytes = 0;                                                     ///< that a rank sent
  double queue_bytes = 0, flight_bytes = 0;                                 ///< most at once
};

struct VariantResult {
  Variant variant;
  std::vector<StepFigures> rounds;
  Timeline timeline;  ///< this rank's, of the traced step
};

/// Every rank calls it. A step is forward, loss and backward of its micro-batches, until the last
/// weight gradient is there; gradient reduction and optimizer are not in it. Variants take turns,
/// round by round.
std::vector<VariantResult> bench_steps(model::Model& model, const comm::Grid& grid,
                                       const std::vector<Variant>& variants,
                                       const StepBenchOptions& options);

}  // namespace farskip::measure
