// How ranks that run an engine together hear of each other between two steps.
#pragma once
#include "comm/group.h"
#include "engine/step_messages.h"

namespace farskip::engine {

/// Rank 0's news, on every rank; those of the others are not looked at. One message, of a few bytes
/// where there is none. CommError if a rank is lost.
News broadcast(const comm::Group& group, News own);

struct Gathered {
  std::vector<Report> reports;  ///< by rank
  News news;                    ///< of rank 0
};

/// Every rank's report and rank 0's news, on every rank. One message, and a second one where a rank
/// has much to say (log-probabilities, a long prompt). CommError if a rank is lost.
Gathered gather(const comm::Group& group, Report own, News news);

}  // namespace farskip::engine
