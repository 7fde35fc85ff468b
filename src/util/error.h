// Errors that a user sees, and the one way to word them: the thing, what was found, what was
// expected.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace farskip {

/// A failure that is nobody's bad input (a full disk, a lost peer): the binary prints it and exits
/// with 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bad input: a file, an option, a configuration. The binary prints the one line and exits with 2.
class InputError : public Error {
 public:
  using Error::Error;
};

namespace util {

/// Everything streamed into one string: concat("layer ", 3, ": ", 4.5).
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws InputError("<what>: found <found>, expected <expected>") unless the condition holds.
template <class Found, class Expected>
void require(bool condition, const std::string& what, const Found& found,
             const Expected& expected) {
  if (!condition) throw InputError(concat(what, ": found ", found, ", expected ", expected));
}

}  // namespace util
}  // namespace farskip
