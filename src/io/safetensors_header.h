// The header of a safetensors file: eight bytes of length (little endian), then JSON that gives
// every tensor's type, shape and place among the bytes that follow. Knows nothing of tensors.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.h"

namespace farskip::io {

struct TensorEntry {
  const DtypeEntry* dtype = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< first byte, counted from SafetensorsHeader::data_begin
  uint64_t end = 0;    ///< one past the last
};

struct SafetensorsHeader {
  uint64_t data_begin = 0;  ///< where in the file the tensors' bytes start
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

/// Parses the header at the start of `file`, the bytes of a whole file. After it returns, every
/// entry lies within the file, dtype x shape is its length and fits int64, and the entries cover
/// the data without overlap or gap. InputError, one line with `name`, on anything else.
SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& name);

}  // namespace farskip::io
