// From the spelling of tokens in tokenizer files to the bytes that they stand for.
#pragma once
#include <string>
#include <string_view>

namespace farskip::text {

/// How a tokenizer spells its tokens.
enum class Spelling {
  bytes,       ///< as they are (tiktoken)
  byte_level,  ///< every byte a printable character: the alphabet of GPT-2
  pieces,      ///< SentencePiece's: U+2581 for a space, "<0x0A>" for a byte; or plain words
};

/// Whether the text of several tokens is their bytes one after the other.
constexpr bool joins(Spelling spelling) {
  return spelling != Spelling::pieces;
}

/// The bytes of a token in the middle of a text. `token` is valid UTF-8, but for Spelling::bytes.
std::string token_bytes(std::string_view token, Spelling spelling);

}  // namespace farskip::text
