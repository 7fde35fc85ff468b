// Binary operators, as Python has them.
#include <algorithm>
#include <cmath>
#include <optional>

#include "io/jinja/builtins.h"
#include "io/text.h"

namespace farskip::io::jinja {
namespace {

std::string described(const Value& value) {
  return value.undefined() ? "an undefined value"
         : value.space()   ? "a namespace"
                           : shown(value.json());
}

[[noreturn]] void refuse_operands(const Call& call, const Value& a, const Value& b) {
  call.refuse(described(a) + " " + call.name + " " + described(b), "operands that fit");
}

bool contains(const Call& call, const Value& part, const Value& whole) {
  if (whole.undefined()) return false;
  const Json& json = whole.json();
  if (json.is_string() && part.is_string())
    return whole.string().find(part.string()) != std::string::npos;
  if (json.is_object() && part.is_string()) return json.contains(part.string());
  if (!json.is_array()) refuse_operands(call, part, whole);
  return std::any_of(json.begin(), json.end(),
                     [&](const Json& element) { return equal(part.json(), element); });
}

bool same(const Value& a, const Value& b) {
  if (a.space() || b.space()) return a.space() == b.space();
  if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
  return equal(a.json(), b.json());
}

bool ordered(const Call& call, const Value& a, const Value& b) {
  const Json &left = a.json(), &right = b.json();
  const bool comparable =
      (left.is_number() && right.is_number()) || (left.is_string() && right.is_string());
  if (!comparable) refuse_operands(call, a, b);
  if (call.name == "<") return left < right;
  if (call.name == ">") return left > right;
  return call.name == "<=" ? left <= right : left >= right;
}

/// Nothing on overflow and division by zero.
std::optional<Json> whole_numbers(const std::string& sign, int64_t a, int64_t b) {
  int64_t result = 0;
  bool fits = true;
  if (sign == "+") {
    fits = !__builtin_add_overflow(a, b, &result);
  } else if (sign == "-") {
    fits = !__builtin_sub_overflow(a, b, &result);
  } else if (sign == "*") {
    fits = !__builtin_mul_overflow(a, b, &result);
  } else if (b == 0 || b == -1) {  // -1 overflows, and no template divides by it
    fits = false;
  } else if (sign == "/") {
    return Json(static_cast<double>(a) / static_cast<double>(b));
  } else {  // rounds down, where C++ rounds to zero
    const bool down = a % b != 0 && (a % b < 0) != (b < 0);
    result = sign == "//" ? a / b - (down ? 1 : 0) : a % b + (down ? b : 0);
  }
  return fits ? std::optional<Json>(result) : std::nullopt;
}

std::optional<Json> real_numbers(const std::string& sign, double a, double b) {
  if (sign == "+") return Json(a + b);
  if (sign == "-") return Json(a - b);
  if (sign == "*") return Json(a * b);
  if (b == 0) return std::nullopt;
  if (sign == "/") return Json(a / b);
  if (sign == "//") return Json(std::floor(a / b));
  return Json(a - b * std::floor(a / b));
}

}  // namespace

Value binary(const Call& call, const Value& a, const Value& b) {
  const std::string& sign = call.name;
  if (sign == "==") return Json(same(a, b));
  if (sign == "!=") return Json(!same(a, b));
  if (sign == "in") return Json(contains(call, a, b));
  if (sign == "not in") return Json(!contains(call, a, b));
  if (sign[0] == '<' || sign[0] == '>') return Json(ordered(call, a, b));
  if (sign == "~") {
    const auto left = text_of(a), right = text_of(b);
    if (!left || !right) refuse_operands(call, a, b);
    return Json(*left + *right);
  }
  const Json &left = a.json(), &right = b.json();
  if (sign == "+" && left.is_string() && right.is_string()) return Json(a.string() + b.string());
  if (sign == "+" && left.is_array() && right.is_array()) {
    Json both = left;
    both.insert(both.end(), right.begin(), right.end());
    return both;
  }
  std::optional<Json> result;
  if (left.is_number_integer() && right.is_number_integer())
    result = whole_numbers(sign, left.get<int64_t>(), right.get<int64_t>());
  else if (left.is_number() && right.is_number())
    result = real_numbers(sign, left.get<double>(), right.get<double>());
  if (!result) refuse_operands(call, a, b);
  return *result;
}

}  // namespace farskip::io::jinja
