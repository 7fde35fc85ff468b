// A step as a picture to look around in: one HTML file that needs nothing else.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "measure/timeline.h"

namespace farskip::measure {

enum class Refresh {
  never,        ///< a file
  every_second  ///< fetched anew from where it was loaded, while the whole step is in view
};

/// A page with the step's figures (D1 over all ranks, where there is a backward pass of both; other
/// times are means over the ranks, the step's is the longest), a legend, and on one time axis for
/// every rank what it computed and which messages were under way. Without ranks, the words alone.
/// Wheel, drag and keys move about in it; a tooltip says what a span is. Light and dark, without
/// scripts a still picture. `title` and `caption` (a paragraph each) are plain text.
std::string timeline_page(std::span<const Timeline> ranks, const std::string& title,
                          const std::vector<std::string>& caption = {},
                          Refresh refresh = Refresh::never);

}  // namespace farskip::measure
