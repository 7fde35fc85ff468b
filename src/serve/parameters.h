// The fields of a request's JSON body; what is wrong with one becomes an ApiError that names it.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_fields.h"
#include "serve/api_error.h"

namespace farskip::serve {

/// A field that is null counts as absent. A field that is never read is refused by finish():
/// nothing that a client asks for is ignored unless a reader says that it may be.
class Parameters {
 public:
  /// ApiError 400 for what is no JSON object (parse_json's rules, and at most 1024 keys an object).
  explicit Parameters(std::string_view body);

  std::optional<int64_t> integer(const char* name, int64_t lo = io::Fields::kLeast,
                                 int64_t hi = io::Fields::kMost);
  std::optional<double> number(const char* name, double lo, double hi);
  std::optional<std::string> string(const char* name);
  /// Must be there.
  std::vector<int64_t> integers(const char* name, int64_t lo, int64_t hi);
  bool boolean(const char* name, bool otherwise);
  /// A value of any kind; null where it is absent.
  const io::Json& value(const char* name);
  std::optional<io::Fields> object(const char* name);

  /// Fields that describe the request and do not change its answer.
  void ignore(std::initializer_list<const char*> names);
  /// Fields of the interface that are not supported: refused unless absent, null, false, an empty
  /// list or object, or equal to what is in effect anyway.
  void refuse(const char* name, const io::Json& in_effect = nullptr);
  /// ApiError 400 for the first field that nobody asked for.
  void finish() const;

 private:
  /// Runs a reader of the field.
  template <class Read>
  auto read(const char* name, Read read);

  io::Fields fields_;
  std::set<std::string, std::less<>> known_;
};

/// JSON with its keys in their order, which templates write tools in; InputError for what is none
/// (parse_json's rules), or has more than 1024 keys in an object: those would take too long.
io::Json parse_client_json(std::string_view text, const std::string& name);

/// ApiError 400: "NAME: found FOUND, expected EXPECTED".
[[noreturn]] void refuse_field(const std::string& name, const std::string& found,
                               const std::string& expected);

}  // namespace farskip::serve
