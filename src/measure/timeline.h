// What one rank did in one step: the raw material of tables, traces and pictures.
#pragma once
#include <vector>

#include "comm/message_log.h"
#include "schedule/part_log.h"

namespace farskip::measure {

/// Times are on this rank's clock; `start` is when the step began, right after a barrier, so that
/// the starts of all ranks are one moment.
struct Timeline {
  int64_t rank = 0;
  comm::Clock::time_point start, end;
  std::vector<schedule::PartSpan> parts;
  std::vector<comm::Message> messages;
};

}  // namespace farskip::measure
