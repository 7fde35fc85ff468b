#include "util/one_line.h"

#include <c10/util/Exception.h>

namespace farskip::util {

std::string one_line(const std::exception& error) {
  const auto* theirs = dynamic_cast<const c10::Error*>(&error);
  const std::string text = theirs ? theirs->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace farskip::util
