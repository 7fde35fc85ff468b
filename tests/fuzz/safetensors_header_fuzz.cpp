// Any bytes as a safetensors file: refused in one line, or every tensor lies within the file.
#include <cstdint>
#include <cstdlib>

#include "io/safetensors_header.h"
#include "util/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const auto header = farskip::io::parse_safetensors_header(file, "file");
    for (const auto& [name, entry] : header.tensors)
      if (entry.begin > entry.end || entry.end > size - header.data_begin) std::abort();
  } catch (const farskip::InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
