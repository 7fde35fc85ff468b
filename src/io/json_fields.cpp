#include "io/json_fields.h"

#include <cmath>

#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

/// The value as a whole number, or nothing.
std::optional<int64_t> whole(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(Fields::kMost)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (std::trunc(number) != number || std::abs(number) > 0x1p53) return std::nullopt;
  return static_cast<int64_t>(number);
}

/// "an integer", "an integer of at least 1", "an integer from 1 to 8".
template <class Number>
std::string bounds(const char* thing, Number lo, Number hi, Number least, Number most) {
  if (lo != least && hi != most) return util::concat(thing, " from ", lo, " to ", hi);
  if (lo != least) return util::concat(thing, " of at least ", lo);
  if (hi != most) return util::concat(thing, " of at most ", hi);
  return thing;
}

}  // namespace

std::string shown(const Json& value) {
  // The dump of a huge or deep value would be cut anyway: containers tell their kind and size.
  if (value.is_structured() && value.size() > 16)
    return util::concat(value.is_object() ? "an object of " : "a list of ", value.size(),
                        " entries");
  if (value.is_number_float() && !std::isfinite(value.get<double>()))  // as Python writes it
    return std::isnan(value.get<double>()) ? "NaN"
           : value.get<double>() > 0       ? "Infinity"
                                           : "-Infinity";
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 80);
}

Fields::Fields(Json json, std::string label) : json_(std::move(json)), label_(std::move(label)) {
  util::require(json_.is_object(), label_, shown(json_), "an object");
}

bool Fields::has(const char* key) const {
  const auto field = json_.find(key);
  return field != json_.end() && !field->is_null();
}

void Fields::refuse(const char* key, const std::string& expected) const {
  const auto field = json_.find(key);
  throw InputError(util::concat(label_, ": ", key, ": found ",
                                field == json_.end() ? "no such field" : shown(*field),
                                ", expected ", expected));
}

int64_t Fields::integer(const char* key, int64_t lo, int64_t hi) const {
  const auto value = has(key) ? whole(json_[key]) : std::nullopt;
  if (!value || *value < lo || *value > hi)
    refuse(key, bounds("an integer", lo, hi, kLeast, kMost));
  return *value;
}

std::optional<int64_t> Fields::optional_integer(const char* key, int64_t lo, int64_t hi) const {
  return has(key) ? std::optional(integer(key, lo, hi)) : std::nullopt;
}

std::vector<int64_t> Fields::integers(const char* key, int64_t lo, int64_t hi) const {
  const std::string expected = "a list of integers, each " + bounds("one", lo, hi, kLeast, kMost);
  if (!has(key) || !json_[key].is_array()) refuse(key, expected);
  std::vector<int64_t> values;
  for (const Json& entry : json_[key]) {
    const auto value = whole(entry);
    if (!value || *value < lo || *value > hi) refuse(key, expected);
    values.push_back(*value);
  }
  return values;
}

std::optional<std::vector<int64_t>> Fields::optional_integers(const char* key, int64_t lo,
                                                              int64_t hi) const {
  return has(key) ? std::optional(integers(key, lo, hi)) : std::nullopt;
}

double Fields::number(const char* key, double lo, double hi) const {
  const bool is_number = has(key) && json_[key].is_number();
  const double value = is_number ? json_[key].get<double>() : 0;
  if (!is_number || !std::isfinite(value) || value < lo || value > hi)
    refuse(key, bounds("a number", lo, hi, -kInfinity, kInfinity));
  return value;
}

std::optional<double> Fields::optional_number(const char* key, double lo, double hi) const {
  return has(key) ? std::optional(number(key, lo, hi)) : std::nullopt;
}

bool Fields::boolean(const char* key) const {
  if (!has(key) || !json_[key].is_boolean()) refuse(key, "true or false");
  return json_[key].get<bool>();
}

std::optional<bool> Fields::optional_boolean(const char* key) const {
  return has(key) ? std::optional(boolean(key)) : std::nullopt;
}

std::string Fields::string(const char* key) const {
  if (!has(key) || !json_[key].is_string()) refuse(key, "a string");
  return json_[key].get<std::string>();
}

std::optional<std::string> Fields::optional_string(const char* key) const {
  return has(key) ? std::optional(string(key)) : std::nullopt;
}

std::vector<std::string> Fields::strings(const char* key) const {
  if (!has(key) || !json_[key].is_array()) refuse(key, "a list of strings");
  std::vector<std::string> values;
  for (const Json& entry : json_[key]) {
    if (!entry.is_string()) refuse(key, "a list of strings");
    values.push_back(entry.get<std::string>());
  }
  return values;
}

Fields Fields::object(const char* key) const {
  if (!has(key) || !json_[key].is_object()) refuse(key, "an object");
  return Fields(json_[key], label_ + ": " + key);
}

std::optional<Fields> Fields::optional_object(const char* key) const {
  return has(key) ? std::optional(object(key)) : std::nullopt;
}

}  // namespace farskip::io
