// What Python's strings do, on UTF-8.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace farskip::io::jinja {

/// str.isspace() of one character.
bool is_space(char32_t c);

/// str.strip() and its halves; `characters` are those to strip, white space if absent.
using Characters = std::optional<std::string_view>;
std::string_view strip_left(std::string_view text, Characters characters = std::nullopt);
std::string_view strip_right(std::string_view text, Characters characters = std::nullopt);
std::string_view strip(std::string_view text, Characters characters = std::nullopt);

/// str.split(): at white space without a separator, which must not be empty.
std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator);

/// str.replace(); `from` must not be empty.
std::string replace(std::string_view text, std::string_view from, std::string_view to);

/// str.upper() and str.lower() of ASCII; nothing if there is another character.
std::optional<std::string> upper(std::string_view text);
std::optional<std::string> lower(std::string_view text);

/// The characters, one string each.
std::vector<std::string> characters_of(std::string_view text);

/// The inside of a string literal without its escapes; nothing if one is damaged.
std::optional<std::string> unescape(std::string_view literal);

}  // namespace farskip::io::jinja
