// Timelines as text, for one rank to gather those of all.
#pragma once
#include <string>

#include "measure/timeline.h"

namespace farskip::measure {

/// One line of JSON; times in nanoseconds from `start`.
std::string to_json(const Timeline& timeline);

/// The timeline that was written; its `start` is the clock's zero, Clock::time_point{}, as clocks
/// of different processes have nothing in common. InputError names what is missing or wrong.
Timeline timeline_from_json(const std::string& text);

}  // namespace farskip::measure
