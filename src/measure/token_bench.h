// Prefills and decode steps of one model in several executions, in turn, and what became of every
// message.
#pragma once
#include <cstdint>
#include <vector>

#include "measure/timeline.h"
#include "measure/variant.h"
#include "model/model.h"
#include "model/synthetic_routes.h"

namespace farskip::measure {

struct TokenBenchOptions {
  int64_t batch = 1;  ///< sequences, of all ranks together where each has all tokens, else a rank
  int64_t prompt = 512;  ///< tokens of each
  /// 0: the prefill is measured, up to the choice of the first token. Else so many steps after it,
  /// each of which adds a token to every sequence.
  int64_t decode_steps = 0;
  int64_t rounds = 5, warmup = 1;
  model::Routing routing = model::Routing::real;
  model::Connectivity converted;
  uint64_t seed = 0;
  bool traced = false;  ///< one more pass of each variant, of a single step where it decodes
};

/// Seconds of one message of a pass, mean over the ranks.
struct MessageFigures {
  comm::MessageName name;
  double communication = 0, exposed = 0;
};

/// Seconds of a prefill, or the mean of a decode step: of the slowest rank; of messages the mean
/// over the ranks.
struct TokenFigures {
  double time = 0;
  double communication = 0;  ///< while at least a message was in flight
  double exposed = 0;        ///< of that, while the compute thread stood waiting
  /// Both of the rank that waited least. It takes its compute and these waits, and the others wait
  /// for it: what it waits is the network's, what they wait beyond that is balance.
  double slowest_communication = 0, slowest_exposed = 0;
  double megabytes = 0;                       ///< that a rank sent
  std::vector<MessageFigures> messages = {};  ///< in the order in which they were first waited for
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 1; }
  double slowest_hidden() const {
    return slowest_communication > 0 ? 1 - slowest_exposed / slowest_communication : 1;
  }
};

struct TokenResult {
  Variant variant;
  std::vector<TokenFigures> rounds;
  Timeline timeline = {};  ///< of this rank, if traced, and of a prefill's bound
};

/// Every rank calls it, with the `ranks` that its passes take. Variants take turns, round by round.
std::vector<TokenResult> bench_tokens(const model::Model& model, const model::ExpertRanks& ranks,
                                      const comm::Group& world,
                                      const std::vector<Variant>& variants,
                                      const TokenBenchOptions& options);

}  // namespace farskip::measure
