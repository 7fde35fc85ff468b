// How the ranks of a job share the work.
#pragma once
#include <memory>

#include "comm/courier.h"
#include "comm/rendezvous.h"

namespace farskip::comm {

/// Expert parallelism x data parallelism. Every rank has tokens of its own and everything but the
/// experts; `ep` ranks that follow one another share the experts out, and that `dp` times.
/// A default one is a single rank.
struct Grid {
  int64_t ep = 1, dp = 1;
  Group world;                       ///< figures and decisions
  Group replicas;                    ///< all ranks: gradients and values of what each of them has
  Group expert_replicas;             ///< the ranks that have the same experts
  std::shared_ptr<Courier> courier;  ///< among the ranks that share the experts; null if ep is 1

  int64_t rank() const { return world.rank(); }
  int64_t size() const { return world.size(); }
  /// Which part of the experts this rank has, from 0 to ep - 1.
  int64_t expert_part() const { return rank() % ep; }
};

/// Every rank calls it. `ep` divides the number of ranks.
Grid make_grid(Rendezvous& rendezvous, int64_t ep);

}  // namespace farskip::comm
