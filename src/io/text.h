// How text from files is shown in one-line messages, and how whole files are read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace farskip::io {

/// One printable line: control characters and invalid UTF-8 become '?', what is longer than `limit`
/// bytes is cut with "...".
std::string printable(std::string_view text, size_t limit = 120);
/// The same in double quotes.
std::string in_quotes(std::string_view text, size_t limit = 120);

/// The whole file. InputError if it can't be read or is longer than `max_bytes`.
std::string read_file(const std::filesystem::path& path, int64_t max_bytes);

}  // namespace farskip::io
