#include "io/jinja/value.h"

#include <algorithm>
#include <optional>

#include "io/jinja/strings.h"

namespace farskip::io::jinja {
namespace {

void write_json(const Json& value, int indent, int level, std::string& out) {
  const auto line = [&](int depth) {
    if (indent >= 0) out += '\n' + std::string(static_cast<size_t>(indent) * depth, ' ');
  };
  if (!value.is_structured() || value.empty()) {
    out += value.dump();
    return;
  }
  out += value.is_object() ? '{' : '[';
  bool first = true;
  for (const auto& item : value.items()) {
    if (!first) out += indent >= 0 ? "," : ", ";
    first = false;
    line(level + 1);
    if (value.is_object()) out += Json(item.key()).dump() + ": ";
    write_json(item.value(), indent, level + 1, out);
  }
  line(level);
  out += value.is_object() ? '}' : ']';
}

}  // namespace

const Json& Value::json() const {
  static const Json null;
  return json_ ? *json_ : null;
}

Value Value::entry(const std::string& key) const {
  if (space_) {
    const auto found = space_->find(key);
    return found == space_->end() ? Value() : found->second;
  }
  if (!json().is_object()) return {};
  const auto found = json_->find(key);
  return found == json_->end() ? Value() : Value(json_, *found);
}

Value Value::element(int64_t index) const {
  if (is_string()) {
    const auto characters = characters_of(string());
    if (index < 0) index += static_cast<int64_t>(characters.size());
    if (index < 0 || index >= static_cast<int64_t>(characters.size())) return {};
    return Json(characters[index]);
  }
  if (!json().is_array()) return {};
  if (index < 0) index += static_cast<int64_t>(json_->size());
  if (index < 0 || index >= static_cast<int64_t>(json_->size())) return {};
  return Value(json_, (*json_)[index]);
}

bool Value::truth() const {
  if (space_) return true;
  const Json& value = json();
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !string().empty();
  return !value.empty();  // null is empty
}

std::optional<std::vector<Value>> Value::elements() const {
  std::vector<Value> all;
  if (undefined()) return all;
  if (json().is_array()) {
    for (const Json& part : *json_) all.push_back(Value(json_, part));
  } else if (json().is_object()) {
    for (const auto& item : json_->items()) all.push_back(Json(item.key()));
  } else if (is_string()) {
    for (std::string& character : characters_of(string()))
      all.push_back(Json(std::move(character)));
  } else {
    return std::nullopt;
  }
  return all;
}

bool equal(const Json& a, const Json& b) {
  const auto number = [](const Json& value) {
    return value.is_boolean() ? value.get<bool>() : value.get<double>();
  };
  const auto numeric = [](const Json& value) { return value.is_number() || value.is_boolean(); };
  if (numeric(a) && numeric(b) && (a.is_boolean() || b.is_boolean())) return number(a) == number(b);
  if (a.is_array() && b.is_array())
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
  if (a.is_object() && b.is_object()) {  // order does not count
    if (a.size() != b.size()) return false;
    for (const auto& item : a.items())
      if (!b.contains(item.key()) || !equal(item.value(), b[item.key()])) return false;
    return true;
  }
  return a == b;
}

std::optional<std::string> text_of(const Value& value) {
  if (value.undefined()) return "";
  const Json& json = value.json();
  if (value.space() || json.is_structured()) return std::nullopt;
  if (json.is_null()) return "None";
  if (json.is_boolean()) return json.get<bool>() ? "True" : "False";
  return json.is_string() ? value.string() : json.dump();
}

std::string to_json(const Json& value, int indent) {
  std::string out;
  write_json(value, indent, 0, out);
  return out;
}

}  // namespace farskip::io::jinja
