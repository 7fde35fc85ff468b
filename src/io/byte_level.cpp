#include "io/byte_level.h"

#include "io/unicode.h"

namespace farskip::io {
namespace {

/// One past the last character of the alphabet: 68 bytes are moved to U+0100..U+0143.
constexpr char32_t kEnd = 0x144;

struct Alphabet {
  std::array<std::string, 256> character_of;
  std::array<int, kEnd> byte_of;

  Alphabet() {
    byte_of.fill(-1);
    char32_t moved = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t point = printable ? static_cast<char32_t>(byte) : moved++;
      append_utf8(point, character_of[byte]);
      byte_of[point] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet value;
  return value;
}

}  // namespace

const std::array<std::string, 256>& byte_level_alphabet() {
  return alphabet().character_of;
}

std::optional<std::string> byte_level_decode(std::string_view text) {
  std::string bytes;
  for (const char32_t point : code_points(text)) {
    if (point >= kEnd || alphabet().byte_of[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet().byte_of[point]));
  }
  return bytes;
}

}  // namespace farskip::io
