// Words for exceptions that are not ours.
#pragma once
#include <exception>
#include <string>

namespace farskip::util {

/// What an exception says, without the lines of the stack that LibTorch's messages go on with.
std::string one_line(const std::exception& error);

}  // namespace farskip::util
