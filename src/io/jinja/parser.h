// Jinja templates, from text to syntax.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "io/jinja/syntax.h"

namespace farskip::io::jinja {

/// Statements if, for, set, break and continue; expressions as jinja2 has them, less powers and
/// recursion. InputError naming the line and the construct of anything else.
std::vector<Statement> parse(std::string_view source, const std::string& name);

}  // namespace farskip::io::jinja
