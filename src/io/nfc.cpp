// Canonical composition. The work is utf8proc's; this file makes its result that of Hugging Face.
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "io/unicode.h"

namespace farskip::io {
namespace {

struct Range {
  char32_t first, last;
};

// tokenizers normalises by the tables of Unicode 9: what came later neither moves nor composes.
// These are the characters (up to Unicode 18) that would do so by newer tables: combining marks and
// first halves of compositions. U+11A7, which never composes, is here because utf8proc drops it
// after a Hangul syllable (seen in 2.8).
constexpr std::array<Range, 67> kApart = {
    {{0x5C8, 0x5C9},     {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},
     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},
     {0x11A7, 0x11A7},   {0x1715, 0x1715},   {0x1ABF, 0x1AF0},   {0x1DF6, 0x1DFA},
     {0xA82C, 0xA82C},   {0x105D2, 0x105D2}, {0x105DA, 0x105DA}, {0x10D24, 0x10D27},
     {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10ECB, 0x10ECF}, {0x10EF0, 0x10EFB},
     {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
     {0x1133B, 0x1133B}, {0x11382, 0x11382}, {0x11384, 0x11384}, {0x1138B, 0x1138B},
     {0x11390, 0x11390}, {0x113C2, 0x113C2}, {0x113CE, 0x113D0}, {0x1145E, 0x1145E},
     {0x11839, 0x1183A}, {0x11935, 0x11935}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
     {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
     {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
     {0x1611E, 0x1611E}, {0x16121, 0x16122}, {0x16129, 0x16129}, {0x1612F, 0x1612F},
     {0x16D63, 0x16D63}, {0x16D67, 0x16D67}, {0x16D69, 0x16D69}, {0x16FF0, 0x16FF1},
     {0x1D127, 0x1D128}, {0x1D250, 0x1D252}, {0x1D25B, 0x1D25C}, {0x1D25F, 0x1D25F},
     {0x1D280, 0x1D281}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
     {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3},
     {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5}}};

bool stays_apart(char32_t c) {
  const auto* range = std::partition_point(kApart.begin(), kApart.end(),
                                           [c](const Range& r) { return r.last < c; });
  return range != kApart.end() && range->first <= c;
}

bool all_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void append_composed(std::string_view text, std::string& out) {
  utf8proc_uint8_t* composed = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw std::bad_alloc();  // valid UTF-8 fails only for want of memory
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  out.append(reinterpret_cast<const char*>(composed), length);
}

}  // namespace

std::string nfc(std::string_view text) {
  if (all_ascii(text)) return std::string(text);
  std::string out;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(static_cast<unsigned char>(text[at]));
    if (length > 1 && stays_apart(code_points(text.substr(at, length))[0])) {
      append_composed(text.substr(done, at - done), out);
      out += text.substr(at, length);
      done = at + length;
    }
    at += length;
  }
  append_composed(text.substr(done), out);
  return out;
}

}  // namespace farskip::io
