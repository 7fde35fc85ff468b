// Element types by the names that safetensors files give them.
#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string_view>

namespace farskip::io {

struct DtypeEntry {
  std::string_view name;  ///< "BF16"
  int64_t bytes;          ///< of one element
  c10::ScalarType type;
};

/// The entry of a name or a type; nullptr if safetensors files with it aren't supported.
const DtypeEntry* find_dtype(std::string_view name);
const DtypeEntry* find_dtype(c10::ScalarType type);

}  // namespace farskip::io
