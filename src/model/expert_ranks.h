// How a pass reaches the experts of other ranks.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "comm/courier.h"
#include "comm/reducer.h"
#include "model/gradient_queue.h"
#include "model/turns.h"

namespace farskip::model {

/// Blocking waits for every message as soon as it is launched, overlapped at the first read. The
/// same parts in the same order of arithmetic: the same bits.
enum class Execution { overlapped, blocking };

/// How tokens get to the experts of other ranks, where every rank has tokens of its own.
enum class Transport {
  all_to_all,  ///< each to the ranks that have its experts; their outputs come back
  all_gather,  ///< all to all ranks, which send back sums of their experts' outputs; only infers
};

/// With Transport::all_to_all, how the outputs of experts come back to a token's rank.
enum class Combine {
  expert,  ///< one row an expert, added up at home in the order of the experts, which depends on no
           ///< layout
  rank     ///< one row a rank, on which the outputs of its experts are added up before: fewer
           ///< bytes, and an order of sums that depends on the number of ranks
};

class TokenCounts;

/// How a pass reaches the experts of other ranks. Rank r of N owns experts r E / N to (r + 1) E /
/// N. At most one of courier and reducer; neither: this rank has all of the model.
struct ExpertRanks {
  /// Every rank has tokens of its own, which go to the experts and back.
  std::shared_ptr<comm::Courier> courier;
  Transport transport = Transport::all_to_all;
  /// Of a pass with Transport::all_gather: how many tokens every rank has; null: the pass asks.
  std::shared_ptr<TokenCounts> counts = {};
  Execution execution = Execution::overlapped;
  /// What a wait works on before it blocks; null: nothing.
  std::shared_ptr<GradientQueue> queue;
  /// Who computes before that; null: nobody.
  std::shared_ptr<Turns> turns = {};
  /// Of features on the wire; undefined: the model's own dtype.
  std::optional<at::ScalarType> wire;
  /// A layer's tokens go to the experts in so many parts, each with messages of its own: the
  /// experts of one run while the tokens of the next, or the outputs of the one before, travel.
  int64_t waves = 1;
  /// Where all ranks know how many tokens there are, a wave has at least so many of them: of fewer,
  /// reading the weights once more costs more than it hides. (64 sequences decode in 168 ms in one
  /// wave and in 266 in two, in regular connectivity; docs/benchmarks/2026-11-26-messages.md.)
  int64_t wave_tokens = 128;
  Combine combine = Combine::expert;
  /// Every rank has all tokens and a part of every matrix (see Share), and outputs are added up.
  std::shared_ptr<comm::Reducer> reducer = {};

  int64_t rank() const { return courier ? courier->group().rank() : 0; }
  int64_t size() const { return courier ? courier->group().size() : 1; }
  bool gathers() const { return size() > 1 && transport == Transport::all_gather; }
  /// In how many waves so many tokens go, at most `most`.
  int64_t waves_of(int64_t tokens, int64_t most) const {
    return std::clamp<int64_t>(tokens / wave_tokens, 1, most);
  }
  /// A message that has just been launched, as the execution waits for it.
  comm::Pending launched(comm::Pending pending) const {
    return execution == Execution::blocking ? comm::Pending(pending.wait()) : std::move(pending);
  }
};

}  // namespace farskip::model
