// Values of a running template.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace farskip::io::jinja {

/// JSON, a namespace() or undefined. Cheap to copy: parts of JSON share the whole.
class Value {
 public:
  using Namespace = std::map<std::string, Value>;

  Value() = default;  ///< undefined
  Value(Json json) : json_(std::make_shared<const Json>(std::move(json))) {}
  explicit Value(std::shared_ptr<Namespace> space) : space_(std::move(space)) {}

  bool undefined() const { return !json_ && !space_; }
  Namespace* space() const { return space_.get(); }
  /// Null for a namespace and where undefined.
  const Json& json() const;
  bool is_string() const { return json().is_string(); }
  const std::string& string() const { return json().get_ref<const std::string&>(); }
  /// Defined and null.
  bool is_none() const { return json_ && json_->is_null(); }

  /// An entry of an object or a namespace; undefined if there is none.
  Value entry(const std::string& key) const;
  /// An element of a list, or a character of a string; undefined outside of it.
  Value element(int64_t index) const;

  /// As Python's bool().
  bool truth() const;
  /// What a loop runs over: elements, keys, characters; nothing for what can't be iterated.
  std::optional<std::vector<Value>> elements() const;

 private:
  Value(std::shared_ptr<const Json> whole, const Json& part) : json_(std::move(whole), &part) {}

  std::shared_ptr<const Json> json_;
  std::shared_ptr<Namespace> space_;
};

/// As Python's ==.
bool equal(const Json& a, const Json& b);
/// As Python's str(), for strings, numbers, booleans and None; nothing for the rest. (Numbers from
/// 1e15 to 1e16 with a fraction are written otherwise.)
std::optional<std::string> text_of(const Value& value);
/// As transformers' filter tojson: json.dumps with ensure_ascii=False; `indent` < 0: one line.
std::string to_json(const Json& value, int indent);

}  // namespace farskip::io::jinja
