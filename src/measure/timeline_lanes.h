// The drawing in a timeline's page.
#pragma once
#include <span>
#include <string>

#include "measure/timeline.h"

namespace farskip::measure {

/// CSS class of a part or message, which gives its colour: "attend", "dispatch back".
std::string css_class(schedule::Part part);
std::string css_class(const comm::MessageName& name);

/// An SVG element: for every rank a line of layers, the compute lane and the message lanes. Every
/// span is a <rect> with data-b and data-e (nanoseconds), data-n (its label) and data-tip, from
/// which the page's script lays it out anew.
std::string lanes_svg(std::span<const Timeline> ranks);

/// "1.23 ms" in the unit that suits.
std::string duration(double seconds);

}  // namespace farskip::measure
