#include "io/unicode.h"

namespace farskip::io {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// How the bytes at the start of a text read: a character, the start of one, or neither.
struct Sequence {
  enum class Kind { kCharacter, kUnfinished, kIllFormed } kind;
  size_t length;  ///< of the character, or of the maximal part of one
};

/// Table 3-7 of the Unicode Standard: the range of the second byte depends on the first.
Sequence read_sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Sequence::Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Sequence::Kind::kIllFormed, 1};
  const size_t length = utf8_length(lead);
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Sequence::Kind::kUnfinished, i};
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1) {
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    if (byte(i) < low || byte(i) > high) return {Sequence::Kind::kIllFormed, i};
  }
  return {Sequence::Kind::kCharacter, length};
}

}  // namespace

size_t first_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Sequence sequence = read_sequence(text.substr(at, 4));
    if (sequence.kind != Sequence::Kind::kCharacter) return at;
    at += sequence.length;
  }
  return at;
}

size_t utf8_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t length = utf8_length(lead);
    char32_t point = length == 1 ? lead : lead & (0xFF >> (length + 1));
    for (size_t i = 1; i < length; ++i)
      point = point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
    points.push_back(point);
    at += length;
  }
  return points;
}

std::string LossyUtf8::push(std::string_view bytes) {
  pending_ += bytes;
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const Sequence sequence = read_sequence(std::string_view(pending_).substr(at, 4));
    if (sequence.kind == Sequence::Kind::kUnfinished) break;
    if (sequence.kind == Sequence::Kind::kCharacter)
      text.append(pending_, at, sequence.length);
    else
      text += kReplacement;
    at += sequence.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string LossyUtf8::finish() {
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return std::string(unfinished ? kReplacement : "");
}

}  // namespace farskip::io
