// A step as a trace for Perfetto (ui.perfetto.dev) and chrome://tracing.
#pragma once
#include <span>
#include <string>

#include "measure/timeline.h"

namespace farskip::measure {

/// One JSON document in the trace event format, every rank a process with its number. Times are
/// microseconds from the rank's `start`. Track 0, compute, holds the parts and inside them "weight
/// gradients" and "wait: layer 3 combine"; the communication tracks hold a span a message from
/// launch to arrival with its bytes, Gbit/s and hidden share, on as many tracks as keep spans
/// apart. An arrow (a flow, one id a message) leads from the launch through the message to its
/// wait.
std::string chrome_trace(std::span<const Timeline> ranks, const std::string& title);

}  // namespace farskip::measure
