// Style sheet and script of a timeline's page.
#pragma once
#include <string_view>

namespace farskip::measure {

std::string_view timeline_style();
std::string_view timeline_script();

}  // namespace farskip::measure
