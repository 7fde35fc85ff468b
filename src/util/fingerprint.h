// Short digests of what must be the same in several places. Not against intent.
#pragma once
#include <cstdint>
#include <string_view>

namespace farskip::util {

/// FNV-1a of 64 bits, on from `hash`.
constexpr uint64_t fingerprint(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace farskip::util
