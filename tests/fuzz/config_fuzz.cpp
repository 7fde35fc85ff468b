// Any text as a config.json: refused in one line, or a configuration that survives being written
// out and read again.
#include <cstdint>
#include <cstdlib>

#include "io/json_file.h"
#include "model/config.h"
#include "util/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace farskip;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::optional<model::ModelConfig> config;
  try {
    config = model::parse_config(io::parse_json(text, "config.json"), "config.json");
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  const auto written = model::config_with_connectivity(*config, config->connectivity).dump();
  const auto again = model::parse_config(io::parse_json(written, "again"), "again");
  if (again.depth() != config->depth() || again.hidden != config->hidden) std::abort();
  for (int64_t k = 0; k < config->depth(); ++k)
    if (again.connectivity.layer(k) != config->connectivity.layer(k)) std::abort();
  return 0;
}
