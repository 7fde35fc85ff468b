// What became of every message of a pass: when it was launched, when it was there, and how long the
// compute thread stood waiting for it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "comm/pending.h"

namespace farskip::comm {

/// Which message of a pass or a training step.
struct MessageName {
  enum class Part {
    // Of tokens to experts and back:
    dispatch,
    combine,
    // Of all tokens to all ranks and sums back:
    counts,  ///< of the pass's tokens
    gather,
    scatter,
    // Sums over ranks that have a part of every matrix each (replicated tokens):
    embedding,
    attention,
    merged,  ///< attention and the shared experts, or the dense MLP beside it
    shared,  ///< the shared experts alone
    mlp,     ///< the dense MLP alone
    routed,  ///< the routed experts, or all experts
    keys,    ///< and values, or latents, gathered where every rank has those of some tokens
    logits,  ///< gathered
    // Between the passes of training:
    gradients,
    weights
  };

  int64_t layer = 0;  ///< of gradients and weights, the bucket; of a message of no layer, nothing
  Part part = Part::dispatch;
  bool backward = false;  ///< the gradient's message, which travels the other way
  int64_t chunk = -1;     ///< of the tokens, where a message is split; -1 where it is whole

  /// Whether it carries tokens to experts or back.
  bool of_experts() const { return part == Part::dispatch || part == Part::combine; }
  /// Whether it carries gradients, or updated weights.
  bool of_update() const { return part == Part::gradients || part == Part::weights; }
  /// "layer 3 dispatch", "layer 7 combine gradient, chunk 2"
  std::string describe() const;
  bool operator==(const MessageName&) const = default;
};

std::string to_string(MessageName::Part part);

struct Message {
  MessageName name;
  int64_t bytes = 0;  ///< sent to other ranks
  Clock::time_point launched, arrived;
  Clock::time_point asked;  ///< for; until wait_begin the compute thread filled the time otherwise
  Clock::time_point wait_begin, wait_end;  ///< it did nothing in between
};

/// Filled by the thread that waits; not thread-safe.
struct MessageLog {
  std::vector<Message> messages;  ///< in the order in which they were waited for
};

/// Sums over some messages, in seconds.
struct Traffic {
  int64_t messages = 0, bytes = 0;
  double communication = 0;  ///< while at least one was in flight, from launch to arrival
  double exposed = 0;        ///< of that, while the compute thread stood waiting (for any message)
  double waiting = 0;        ///< all the time that it stood waiting

  /// D1: the share of communication time that ran while something was computed; 1 without any.
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 1; }
  /// Of another rank, or of another time.
  Traffic& operator+=(const Traffic& other);
};

/// Of the messages for which `counts` says so; waits for the others count as waiting all the same
/// where they fall into a counted message's time.
Traffic measure(const MessageLog& log, const std::function<bool(const Message&)>& counts);

}  // namespace farskip::comm
