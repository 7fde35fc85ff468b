#include "io/jinja/builtins.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "io/jinja/lexer.h"
#include "io/jinja/strings.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // jinja2's sandbox has the same

// Those that take no arguments.
constexpr std::array<std::string_view, 9> kPlainFilters = {
    "length", "count", "trim", "upper", "lower", "string", "list", "first", "last"};
constexpr std::array<std::string_view, 13> kPlainTests = {
    "defined", "undefined", "none",  "string",  "mapping", "iterable", "sequence",
    "number",  "integer",   "float", "boolean", "true",    "false"};

/// Refuses a name that is not in the table, and arguments.
template <class Names>
void check_plain(const Call& call, const Names& names, const char* what) {
  if (std::find(names.begin(), names.end(), call.name) == names.end())
    call.refuse(what + call.name, "one that is supported");
  call.check_arguments(0, 0);
}

std::string text_for(const Call& call, const Value& value) {
  const auto text = text_of(value);
  if (!text) call.refuse("a list or dictionary as text", "a string, number or none");
  return *text;
}

int64_t length_of(const Call& call, const Value& value) {
  if (value.is_string()) return static_cast<int64_t>(characters_of(value.string()).size());
  if (!value.undefined() && !value.json().is_structured())
    call.refuse("the length of " + shown(value.json()), "a string, list or dictionary");
  return static_cast<int64_t>(value.json().size());
}

std::vector<Value> elements_for(const Call& call, const Value& value) {
  auto elements = value.elements();
  if (!elements) call.refuse(shown(value.json()), "something to iterate over");
  return std::move(*elements);
}

Json list_of(const std::vector<Value>& values) {
  Json list = Json::array();
  for (const Value& value : values) list.push_back(value.json());
  return list;
}

Value change_case(const Call& call, const std::string& text) {
  const auto changed = call.name == "upper" ? upper(text) : lower(text);
  if (!changed)
    call.refuse(call.name + " of " + in_quotes(text), "ASCII (others are not supported)");
  return Json(*changed);
}

Value default_filter(const Call& call) {
  if (call.arguments.size() > 2) call.check_arguments(0, 2);
  const auto given = [&](size_t position, const char* keyword) {
    const auto found = call.keywords.find(keyword);
    if (found != call.keywords.end()) return found->second;
    return position < call.arguments.size() ? call.arguments[position] : Value();
  };
  const bool missing =
      given(1, "boolean").truth() ? !call.subject.truth() : call.subject.undefined();
  if (!missing) return call.subject;
  const Value replacement = given(0, "default_value");
  return replacement.undefined() ? Value(Json("")) : replacement;
}

Value tojson_filter(const Call& call) {
  for (const auto& [name, value] : call.keywords)
    if (name != "indent") call.refuse("tojson with " + name, "indent only");
  if (call.subject.undefined() || call.subject.space() || call.arguments.size() > 0)
    call.refuse("tojson of an undefined value or with arguments", "a value");
  const auto indent = call.keywords.find("indent");
  const bool indented = indent != call.keywords.end() && !indent->second.is_none();
  if (!indented) return Json(to_json(call.subject.json(), -1));
  const Json& width = indent->second.json();
  if (!width.is_number_integer() || width < 0 || width > 16)
    call.refuse("an indent of " + shown(width), "0 to 16");
  return Json(to_json(call.subject.json(), width.get<int>()));
}

Value join_filter(const Call& call) {
  call.check_arguments(0, 1);
  const std::string separator =
      call.arguments.empty() ? "" : text_for(call, call.arguments.front());
  std::string text;
  bool first = true;
  for (const Value& element : elements_for(call, call.subject)) {
    if (!first) text += separator;
    first = false;
    text += text_for(call, element);
  }
  return Json(text);
}

Value items_of(const Call& call) {
  call.check_arguments(0, 0);
  if (!call.subject.json().is_object()) call.refuse(shown(call.subject.json()), "a dictionary");
  Json list = Json::array();
  for (const auto& item : call.subject.json().items()) {
    if (call.name == "keys") list.push_back(item.key());
    if (call.name == "values") list.push_back(item.value());
    if (call.name == "items") list.push_back(Json::array({item.key(), item.value()}));
  }
  return list;
}

Value strip_method(const Call& call) {
  call.check_arguments(0, 1);
  Characters characters;
  if (!call.arguments.empty() && !call.arguments[0].is_none()) characters = call.string(0);
  const std::string& text = call.subject.string();
  return Json(std::string(call.name == "lstrip"   ? strip_left(text, characters)
                          : call.name == "rstrip" ? strip_right(text, characters)
                                                  : strip(text, characters)));
}

Value range_function(const Call& call) {
  call.check_arguments(1, 3);
  std::array<int64_t, 3> numbers = {0, 0, 1};
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    if (!call.arguments[i].json().is_number_integer())
      call.refuse("range of " + shown(call.arguments[i].json()), "whole numbers");
    numbers[call.arguments.size() == 1 ? 1 : i] = call.arguments[i].json().get<int64_t>();
  }
  const auto [start, end, step] = numbers;
  if (step == 0) call.refuse("a step of 0", "another");
  Json list = Json::array();
  for (__int128 i = start; step > 0 ? i < end : i > end; i += step) {
    if (list.size() == kMaxRange)
      call.refuse("a longer range", util::concat("at most ", kMaxRange));
    list.push_back(static_cast<int64_t>(i));
  }
  return list;
}

}  // namespace

void Call::refuse(const std::string& found, const std::string& expected) const {
  jinja::refuse(template_name, line, found, expected);
}

void Call::check_arguments(size_t least, size_t most) const {
  if (!keywords.empty()) refuse(name + " with " + keywords.begin()->first, "no such argument");
  if (arguments.size() < least || arguments.size() > most)
    refuse(util::concat(name, " with ", arguments.size(), " arguments"),
           least == most ? util::concat(least) : util::concat(least, " to ", most));
}

const std::string& Call::string(size_t argument) const {
  if (!arguments[argument].is_string() || arguments[argument].string().empty())
    refuse(util::concat(name, " with ", shown(arguments[argument].json())), "a string");
  return arguments[argument].string();
}

Value call_filter(const Call& call) {
  const std::string& name = call.name;
  if (name == "default" || name == "d") return default_filter(call);
  if (name == "tojson") return tojson_filter(call);
  if (name == "join") return join_filter(call);
  if (name == "items") return items_of(call);
  if (name == "replace") {
    call.check_arguments(2, 2);
    if (!call.arguments[1].is_string()) call.refuse("replace without a string", "two strings");
    return Json(replace(text_for(call, call.subject), call.string(0), call.arguments[1].string()));
  }
  check_plain(call, kPlainFilters, "the filter ");
  if (name == "length" || name == "count") return Json(length_of(call, call.subject));
  if (name == "trim") return Json(std::string(strip(text_for(call, call.subject))));
  if (name == "upper" || name == "lower") return change_case(call, text_for(call, call.subject));
  if (name == "string") return Json(text_for(call, call.subject));
  if (name == "list") return list_of(elements_for(call, call.subject));
  const auto elements = elements_for(call, call.subject);
  if (elements.empty()) return {};
  return name == "first" ? elements.front() : elements.back();
}

bool call_test(const Call& call) {
  const std::string& name = call.name;
  const Value& value = call.subject;
  const Json& json = value.json();
  if (name == "eq" || name == "equalto" || name == "ne" || name == "in") {
    call.check_arguments(1, 1);
    const Call compared{call.template_name,
                        call.line,
                        name == "in" ? "in" : name == "ne" ? "!=" : "==",
                        {},
                        {},
                        {}};
    return binary(compared, value, call.arguments[0]).truth();
  }
  check_plain(call, kPlainTests, "the test ");
  if (name == "defined") return !value.undefined();
  if (name == "undefined") return value.undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return json.is_string();
  if (name == "mapping") return json.is_object();
  if (name == "iterable" || name == "sequence")
    return value.undefined() || json.is_string() || json.is_structured();
  if (name == "number") return json.is_number() || json.is_boolean();
  if (name == "integer") return json.is_number_integer();
  if (name == "float") return json.is_number_float();
  if (name == "boolean") return json.is_boolean();
  if (name == "true") return json.is_boolean() && json.get<bool>();
  return json.is_boolean() && !json.get<bool>();
}

Value call_function(const Call& call) {
  if (call.name == "namespace") {
    if (!call.arguments.empty()) call.refuse("namespace with a plain argument", "name=value");
    return Value(std::make_shared<Value::Namespace>(call.keywords));
  }
  if (call.name == "range") return range_function(call);
  if (call.name == "raise_exception") {
    call.check_arguments(1, 1);
    throw InputError(util::concat(call.template_name, ": line ", call.line, ": the template says ",
                                  in_quotes(text_for(call, call.arguments[0]))));
  }
  call.refuse("the function " + call.name, "one that is supported");
}

Value call_method(const Call& call) {
  const std::string& name = call.name;
  const Json& json = call.subject.json();
  if (json.is_object()) {
    if (name == "keys" || name == "values" || name == "items") return items_of(call);
    if (name == "get") {
      call.check_arguments(1, 2);
      const Value found = call.subject.entry(call.string(0));
      if (!found.undefined()) return found;
      return call.arguments.size() == 2 ? call.arguments[1] : Value(Json());
    }
  } else if (json.is_string()) {
    const std::string& text = call.subject.string();
    if (name == "strip" || name == "lstrip" || name == "rstrip") return strip_method(call);
    if (name == "startswith" || name == "endswith") {
      call.check_arguments(1, 1);
      const std::string& part = call.string(0);
      return Json(text.size() >= part.size() &&
                  text.compare(name == "startswith" ? 0 : text.size() - part.size(), part.size(),
                               part) == 0);
    }
    if (name == "split") {
      call.check_arguments(0, 1);
      if (call.arguments.empty()) return Json(split(text, std::nullopt));
      return Json(split(text, call.string(0)));
    }
    if (name == "replace") {
      call.check_arguments(2, 2);
      if (!call.arguments[1].is_string()) call.refuse("replace without a string", "two strings");
      return Json(replace(text, call.string(0), call.arguments[1].string()));
    }
    if (name == "upper" || name == "lower") {
      call.check_arguments(0, 0);
      return change_case(call, text);
    }
  }
  call.refuse("the method " + name + " of " + shown(json), "one that is supported");
}

bool is_method(const std::string& name) {
  static constexpr std::array<const char*, 20> kMethods = {
      "get",   "keys",  "values", "items",      "pop",      "update",  "copy",
      "clear", "split", "strip",  "lstrip",     "rstrip",   "replace", "upper",
      "lower", "title", "format", "startswith", "endswith", "index"};
  return std::find(kMethods.begin(), kMethods.end(), name) != kMethods.end();
}

}  // namespace farskip::io::jinja
