#include "io/json_file.h"

#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "io/atomic_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

constexpr int kMaxDepth = 100;
constexpr int64_t kMaxFile = int64_t{256} << 20;

/// Refuses what the library lets pass: keys given twice and deep nesting.
class Watch {
 public:
  explicit Watch(const std::string& name) : name_(name) {}

  template <class AnyJson>
  void operator()(int depth, typename AnyJson::parse_event_t event, const AnyJson& parsed) {
    using Event = typename AnyJson::parse_event_t;
    const bool starts = event == Event::object_start || event == Event::array_start;
    if (starts && depth >= kMaxDepth)
      throw InputError(
          util::concat(name_, ": found JSON nested deeper than ", kMaxDepth, ", expected less"));
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.template get<std::string>()).second)
      throw InputError(name_ + ": found the key " + in_quotes(parsed.template get<std::string>()) +
                       " twice in one object, expected it once");
  }

 private:
  const std::string& name_;
  std::vector<std::set<std::string>> keys_;  ///< of the open objects
};

template <class AnyJson>
AnyJson parse(std::string_view text, const std::string& name) {
  if (text.empty()) throw InputError(name + ": found an empty file, expected JSON");
  Watch watch(name);
  try {
    return AnyJson::parse(text.begin(), text.end(),
                          [&](int depth, typename AnyJson::parse_event_t event, AnyJson& parsed) {
                            watch(depth, event, parsed);
                            return true;
                          });
  } catch (const nlohmann::detail::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string what = error.what();
    what = what.substr(what.find("] ") + 2);
    throw InputError(name + ": found invalid JSON (" + printable(what, 240) + "), expected JSON");
  }
}

/// What the three words stand for in strict JSON, until it is parsed.
constexpr std::pair<std::string_view, double> kWords[] = {
    {"-Infinity", -std::numeric_limits<double>::infinity()},
    {"Infinity", std::numeric_limits<double>::infinity()},
    {"NaN", std::numeric_limits<double>::quiet_NaN()}};

/// The words as strings that begin with a control character, as no field's value does.
std::string with_words_in_quotes(std::string_view text) {
  std::string strict;
  bool in_string = false;
  for (size_t at = 0; at < text.size();) {
    size_t length = 1;
    if (in_string && text[at] == '\\') {
      length = std::min<size_t>(2, text.size() - at);
    } else if (text[at] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      for (const auto& [word, value] : kWords)
        if (text.substr(at).starts_with(word)) {
          strict += util::concat("\"\\u0001", word, '"');
          length = 0;
          at += word.size();
          break;
        }
    }
    strict += text.substr(at, length);
    at += length;
  }
  return strict;
}

void restore_words(Json& json) {
  if (json.is_structured())
    for (Json& entry : json) restore_words(entry);
  if (!json.is_string()) return;
  for (const auto& [word, value] : kWords)
    if (json == util::concat('\1', word)) {
      json = value;
      return;
    }
}

}  // namespace

Json parse_python_json(std::string_view text, const std::string& name) {
  Json json = parse_json(with_words_in_quotes(text), name);
  restore_words(json);
  return json;
}

Json parse_json(std::string_view text, const std::string& name) {
  return parse<Json>(text, name);
}

nlohmann::json parse_large_json(std::string_view text, const std::string& name) {
  return parse<nlohmann::json>(text, name);
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kMaxFile), path.string());
}

Json read_python_json_file(const std::filesystem::path& path) {
  return parse_python_json(read_file(path, kMaxFile), path.string());
}

nlohmann::json read_large_json_file(const std::filesystem::path& path) {
  return parse_large_json(read_file(path, kMaxFile), path.string());
}

void write_json_file(const std::filesystem::path& path, const Json& json) {
  AtomicFile file(path);
  file.write(json.dump(2) + '\n');
  file.commit();
}

}  // namespace farskip::io
