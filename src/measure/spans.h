// What every drawing of a timeline needs: names, what lies inside the parts, and tracks.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "measure/timeline.h"
#include "model/turns.h"

namespace farskip::measure {

/// Nanoseconds from the step's beginning.
int64_t since_start(const Timeline& timeline, comm::Clock::time_point time);

/// "layer 3 attention a", "layer 3 attention a, backward", "head"
std::string describe(const schedule::PartSpan& part);

/// Something that the compute thread did inside a part on a message's account.
struct Inset {
  enum class Kind { fill, wait };  ///< weight gradients until a message is there; nothing at all

  Kind kind = Kind::wait;
  size_t message = 0;          ///< its place in Timeline::messages
  int64_t begin = 0, end = 0;  ///< nanoseconds from the step's beginning; never empty
};

/// All waits, and the fills of more than `least_fill` nanoseconds (asking alone takes a moment), in
/// order of time. They are cut where a part begins or ends and where a wait interrupts a fill, so
/// that none overlaps another and each lies inside one part or outside of all.
std::vector<Inset> insets(const Timeline& timeline, int64_t least_fill = 5000);

/// Of the time from `begin` to `end`, the stretches in which no other strand than `own` had its
/// turn.
std::vector<std::pair<comm::Clock::time_point, comm::Clock::time_point>> own_time(
    comm::Clock::time_point begin, comm::Clock::time_point end, int64_t own,
    const std::vector<model::Turns::Turn>& turns);

/// A track for every message, as few as keep the messages of each track apart in time: a message
/// goes on the first track that is free when it is launched.
std::vector<size_t> tracks(const Timeline& timeline);

}  // namespace farskip::measure
