// The filters, tests, functions and methods that templates may use.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "io/jinja/value.h"

namespace farskip::io::jinja {

/// One use of a filter, test, function or method, and where it stands.
struct Call {
  const std::string& template_name;
  int line;
  std::string name;
  Value subject;  ///< undefined for a function
  std::vector<Value> arguments;
  std::map<std::string, Value> keywords;

  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const;
  /// Refuses keywords, and other numbers of arguments.
  void check_arguments(size_t least, size_t most) const;
  /// An argument that must be a string that isn't empty.
  const std::string& string(size_t argument) const;
};

/// All refuse names that they don't know and values that Python would not take. InputError.
Value call_filter(const Call& call);
bool call_test(const Call& call);
/// namespace, range and raise_exception, which is an InputError with the template's message.
Value call_function(const Call& call);
/// Of strings and dictionaries.
Value call_method(const Call& call);
/// Whether dictionaries or strings have a method of this name in Python.
bool is_method(const std::string& name);

/// What "a OP b" gives; and, or are not among the operators.
Value binary(const Call& call, const Value& a, const Value& b);

}  // namespace farskip::io::jinja
