#include "serve/parameters.h"

#include "io/json_file.h"

namespace farskip::serve {
namespace {

using io::Fields, io::Json, util::concat;

constexpr const char* kBody = "request body";
/// An ordered object of n keys takes n^2 time.
constexpr size_t kMostKeys = 1024;

void check_keys(const nlohmann::json& value, const std::string& name) {
  if (value.is_object() && value.size() > kMostKeys)
    throw InputError(
        concat(name, ": found an object of ", value.size(), " keys, expected at most ", kMostKeys));
  if (value.is_structured())
    for (const auto& entry : value) check_keys(entry, name);
}

Fields parse(std::string_view body) {
  try {
    if (body.empty()) throw InputError(concat(kBody, ": found nothing, expected a JSON object"));
    return Fields(parse_client_json(body, kBody), kBody);
  } catch (const InputError& error) {
    throw ApiError(400, error.what());
  }
}

bool says_nothing(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

}  // namespace

Json parse_client_json(std::string_view text, const std::string& name) {
  check_keys(io::parse_large_json(text, name), name);
  return io::parse_json(text, name);
}

void refuse_field(const std::string& name, const std::string& found, const std::string& expected) {
  throw ApiError(400, concat(name, ": found ", found, ", expected ", expected), name,
                 "invalid_value");
}

Parameters::Parameters(std::string_view body) : fields_(parse(body)) {}

template <class Read>
auto Parameters::read(const char* name, Read read) {
  known_.insert(name);
  try {
    return read();
  } catch (const InputError& error) {
    // "request body: NAME: ...": the label says nothing that a client does not know.
    throw ApiError(400, std::string(error.what()).substr(fields_.label().size() + 2), name,
                   "invalid_value");
  }
}

std::optional<int64_t> Parameters::integer(const char* name, int64_t lo, int64_t hi) {
  return read(name, [&] { return fields_.optional_integer(name, lo, hi); });
}

std::optional<double> Parameters::number(const char* name, double lo, double hi) {
  return read(name, [&] { return fields_.optional_number(name, lo, hi); });
}

std::optional<std::string> Parameters::string(const char* name) {
  return read(name, [&] { return fields_.optional_string(name); });
}

std::vector<int64_t> Parameters::integers(const char* name, int64_t lo, int64_t hi) {
  return read(name, [&] { return fields_.integers(name, lo, hi); });
}

bool Parameters::boolean(const char* name, bool otherwise) {
  return read(name, [&] { return fields_.optional_boolean(name); }).value_or(otherwise);
}

std::optional<Fields> Parameters::object(const char* name) {
  return read(name, [&] { return fields_.optional_object(name); });
}

const Json& Parameters::value(const char* name) {
  static const Json absent;
  known_.insert(name);
  const auto field = fields_.json().find(name);
  return field == fields_.json().end() ? absent : *field;
}

void Parameters::ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void Parameters::refuse(const char* name, const Json& in_effect) {
  const Json& found = value(name);
  if (says_nothing(found) || found == in_effect) return;
  throw ApiError(400,
                 concat(name, ": found ", io::shown(found), ", expected ",
                        in_effect.is_null() ? "no such field" : io::shown(in_effect),
                        " (more is not supported)"),
                 name, "unsupported_parameter");
}

void Parameters::finish() const {
  for (const auto& [name, value] : fields_.json().items())
    if (!known_.contains(name))
      throw ApiError(400, concat("Unknown parameter: ", io::in_quotes(name)), io::printable(name),
                     "unknown_parameter");
}

}  // namespace farskip::serve
