// What the method's windows can hide of a prefill's messages.
#pragma once
#include "measure/token_bench.h"

namespace farskip::measure {

/// What is under a message in the method's schedule, and what that leaves: with tokens of their
/// own, all of a layer but gate and routed experts is for its two messages (arXiv 2511.11505, eq.
/// 9: T_dispatch + T_combine <= T_layer - (T_routed + T_gate)); with replicated tokens (section 5)
/// the merged sum is under the layer's routed experts, and the routed experts' sum under the next
/// layer's attention. Nothing is under other messages.
struct Windows {
  double communication = 0;  ///< seconds of all messages, one at a time
  double exposed = 0;        ///< of them, what exceeds the windows
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 1; }
};

/// `messages`: of a blocking execution, in the rounds' medians; `parts`: what was computed, without
/// a network.
Windows windows(const std::vector<MessageFigures>& messages,
                const std::vector<schedule::PartSpan>& parts);
/// Of the converted model, from its blocking rounds and its traced bound.
Windows windows(const std::vector<TokenResult>& variants);

}  // namespace farskip::measure
