#include "text/token_bytes.h"

#include <array>
#include <charconv>
#include <optional>

#include "io/unicode.h"

namespace farskip::text {
namespace {

/// One past the last character of GPT-2's alphabet. Printable ASCII and Latin-1 stand for
/// themselves, the other 68 bytes in order for U+0100 and up.
constexpr char32_t kEnd = 0x144;

std::array<int, kEnd> make_alphabet() {
  std::array<int, kEnd> byte_of;
  byte_of.fill(-1);
  char32_t moved = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    byte_of[printable ? static_cast<char32_t>(byte) : moved++] = byte;
  }
  return byte_of;
}

/// Nothing if the token has another character: an added token, which is spelt as it is.
std::optional<std::string> byte_level(std::string_view token) {
  static const std::array<int, kEnd> byte_of = make_alphabet();
  std::string bytes;
  for (const char32_t point : io::code_points(token)) {
    if (point >= kEnd || byte_of[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of[point]));
  }
  return bytes;
}

std::string piece(std::string_view token) {
  unsigned char byte = 0;
  if (token.size() == 6 && token.starts_with("<0x") && token.back() == '>') {
    const char* end = token.data() + 5;
    if (std::from_chars(token.data() + 3, end, byte, 16).ptr == end)
      return std::string(1, static_cast<char>(byte));
  }
  constexpr std::string_view kSpace = "\u2581";
  std::string text(token);
  for (size_t at = 0; (at = text.find(kSpace, at)) != std::string::npos; ++at)
    text.replace(at, kSpace.size(), " ");
  return text;
}

}  // namespace

std::string token_bytes(std::string_view token, Spelling spelling) {
  switch (spelling) {
    case Spelling::bytes:
      return std::string(token);
    case Spelling::byte_level:
      return byte_level(token).value_or(std::string(token));
    case Spelling::pieces:
      return piece(token);
  }
  return {};
}

}  // namespace farskip::text
