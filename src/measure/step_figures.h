// What a training step took, and what became of its messages.
#pragma once
#include <cstdint>
#include <map>

#include "comm/group.h"
#include "comm/message_log.h"

namespace farskip::measure {

/// Seconds, means over the ranks.
struct DirectionFigures {
  double time = 0;
  double communication = 0;  ///< from launch to arrival, summed over the messages
  double exposed = 0;        ///< of that, while the compute thread stood waiting
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 1; }
};

/// One step. Forward is all up to x_L; head, loss and everything after count as backward, and so
/// does an update, but for what of it fills waits.
struct StepFigures {
  double time = 0;                      ///< of the slowest rank
  DirectionFigures forward, backward;   ///< of the experts' messages
  DirectionFigures gradients, weights;  ///< of Update::all; time is not set
  std::map<int64_t, DirectionFigures> forward_by_layer, backward_by_layer;  ///< time is not set
  double megabytes = 0;                                                     ///< that a rank sent
  double queue_bytes = 0, flight_bytes = 0;                                 ///< most at once
};

/// Of one rank, whose messages are in `log`.
StepFigures step_figures(const comm::MessageLog& log, double time, double forward_time);

/// Means over the ranks; of times and of bytes at once, the most. Every rank calls it.
StepFigures over_ranks(StepFigures own, const comm::Group& world);

}  // namespace farskip::measure
