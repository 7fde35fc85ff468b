// JSON files: strict reading, whole writing, and typed access with errors that name the field.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "io/json_fields.h"
#include "io/text.h"

namespace farskip::io {

/// Parses one JSON document. InputError, one line with `name` and the place, on anything that is
/// not JSON (NaN too), invalid UTF-8, a key given twice, or nesting deeper than 100.
Json parse_json(std::string_view text, const std::string& name);
/// The same into objects with sorted keys: an ordered object of n keys takes n^2 time, which an
/// index or header with a hundred thousand names can't afford.
nlohmann::json parse_large_json(std::string_view text, const std::string& name);

/// The same of what Python's json module writes: NaN, Infinity and -Infinity are numbers.
Json parse_python_json(std::string_view text, const std::string& name);

/// Reads and parses a file of at most 256 MiB.
Json read_json_file(const std::filesystem::path& path);
Json read_python_json_file(const std::filesystem::path& path);
nlohmann::json read_large_json_file(const std::filesystem::path& path);

/// Writes indented JSON with a last newline, beside and then renamed.
void write_json_file(const std::filesystem::path& path, const Json& json);

}  // namespace farskip::io
