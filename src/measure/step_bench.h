// Training steps of one model in several executions, in turn, and what became of every message.
#pragma once
#include <cstdint>
#include <vector>

#include "comm/grid.h"
#include "measure/step_figures.h"
#include "measure/timeline.h"
#include "measure/variant.h"
#include "model/model.h"
#include "model/synthetic_routes.h"

namespace farskip::measure {

/// What is in a step beside forward, loss and backward of its micro-batches.
enum class Update {
  none,
  own,  ///< the gradients' norm, and the optimizer's update of what the rank owns: of its experts,
        ///< and of its part of the rest (train::GradientSync). No messages: how much they weigh
        ///< beside those of tokens depends on the number of micro-batches
  all   ///< also the reduction of gradients and the exchange of updated weights
};

struct StepBenchOptions {
  int64_t batch = 1;  ///< sequences a rank
  int64_t sequence = 512;
  int64_t micro_batches = 1;  ///< in a step; weight gradients of one may fill waits of the next
  /// In overlapped executions over the network, forward passes run beside the backward passes of
  /// the micro-batches before (see schedule::run_micro_batches).
  bool interleave = false;
  int64_t rounds = 5, warmup = 1;            ///< rounds of at most two micro-batches
  int64_t queue_bytes = int64_t{256} << 20;  ///< of weight gradients that fill waits
  model::Routing routing = model::Routing::real;
  model::Connectivity converted;
  std::optional<at::ScalarType> wire;  ///< see model::ExpertRanks
  int64_t waves = 1;                   ///< of overlapped executions (see model::ExpertRanks)
  model::Combine combine = model::Combine::expert;
  Update update = Update::own;
  uint64_t seed = 0;
  /// One more step of every variant, whose timeline is kept; else only of the bound.
  bool traced = false;
};

struct VariantResult {
  Variant variant;
  std::vector<StepFigures> rounds;
  Timeline timeline;  ///< this rank's, of the traced step
};

/// Every rank calls it. A step begins with the update that the gradients of the step before call
/// for, which in overlapped executions goes on under the forward pass, as in train::Trainer, and
/// ends with the last weight gradient and the norm. The learning rate is 0: all variants have the
/// same weights. They take turns, round by round.
std::vector<VariantResult> bench_steps(model::Model& model, const comm::Grid& grid,
                                       const std::vector<Variant>& variants,
                                       const StepBenchOptions& options);

}  // namespace farskip::measure
