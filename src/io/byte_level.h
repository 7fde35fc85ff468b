// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that
// vocabularies of byte strings are text files.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace farskip::io {

/// The character of each byte, in UTF-8. Printable ASCII and Latin-1 stand for themselves, the
/// other 68 bytes in order for U+0100 and up.
const std::array<std::string, 256>& byte_level_alphabet();

/// The bytes that a text in the alphabet stands for; nothing if it has another character. `text`
/// must be valid UTF-8.
std::optional<std::string> byte_level_decode(std::string_view text);

}  // namespace farskip::io
