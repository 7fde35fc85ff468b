// Typed reading of one JSON object; every error names the file, the field, what was found and what
// was expected.
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace farskip::io {

using Json = nlohmann::ordered_json;

/// A JSON value as it is shown in messages: one short line.
std::string shown(const Json& value);

/// The fields of one object. A field that is null counts as absent. Plain readers refuse an absent
/// field, optional_ readers return nothing; both refuse a field of the wrong type or out of [lo,
/// hi] with InputError "LABEL: KEY: found X, expected Y".
class Fields {
 public:
  static constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  /// InputError unless `json` is an object.
  Fields(Json json, std::string label);

  const Json& json() const { return json_; }
  const std::string& label() const { return label_; }
  bool has(const char* key) const;
  [[noreturn]] void refuse(const char* key, const std::string& expected) const;

  /// Whole numbers; 3.0 counts, "3" and true do not.
  int64_t integer(const char* key, int64_t lo = kLeast, int64_t hi = kMost) const;
  std::optional<int64_t> optional_integer(const char* key, int64_t lo = kLeast,
                                          int64_t hi = kMost) const;
  std::vector<int64_t> integers(const char* key, int64_t lo = kLeast, int64_t hi = kMost) const;
  std::optional<std::vector<int64_t>> optional_integers(const char* key, int64_t lo = kLeast,
                                                        int64_t hi = kMost) const;
  /// Finite numbers.
  double number(const char* key, double lo = -kInfinity, double hi = kInfinity) const;
  std::optional<double> optional_number(const char* key, double lo = -kInfinity,
                                        double hi = kInfinity) const;
  bool boolean(const char* key) const;
  std::optional<bool> optional_boolean(const char* key) const;
  std::string string(const char* key) const;
  std::optional<std::string> optional_string(const char* key) const;
  std::vector<std::string> strings(const char* key) const;
  Fields object(const char* key) const;
  std::optional<Fields> optional_object(const char* key) const;

 private:
  Json json_;
  std::string label_;
};

}  // namespace farskip::io
