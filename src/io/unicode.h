// UTF-8: validity, and lossy reading of byte streams.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace farskip::io {

/// Offset of the first byte that starts no valid UTF-8 character; text.size() if all are valid.
/// Surrogates, overlong forms and values above U+10FFFF are invalid.
size_t first_invalid_utf8(std::string_view text);

/// Bytes of the character that starts with `lead`, the first byte of a valid character: 1 to 4.
size_t utf8_length(unsigned char lead);

/// The code points of valid UTF-8.
std::u32string code_points(std::string_view text);

/// Turns bytes that arrive in pieces into valid UTF-8. Each maximal part of an ill-formed sequence
/// becomes one U+FFFD (Unicode Standard, section 3.9), wherever the pieces were cut.
class LossyUtf8 {
 public:
  /// The characters that are complete with these bytes.
  std::string push(std::string_view bytes);
  /// What an unfinished character at the end stands for: U+FFFD or nothing.
  std::string finish();

 private:
  std::string pending_;  ///< at most 3 bytes, the start of a character
};

}  // namespace farskip::io
