#include "kernels/isa/table.h"

#include <cstdlib>
#include <string_view>

#include "util/error.h"

namespace farskip::kernels::isa {

namespace baseline {
extern const Table kTable;
}
namespace avx2 {
extern const Table kTable;
}
namespace avx512 {
extern const Table kTable;
}

namespace {

Level allowed() {
  const char* name = std::getenv("FARSKIP_ISA");
  if (name == nullptr || std::string_view(name) == "avx512") return Level::kAvx512Bf16;
  if (std::string_view(name) == "avx2") return Level::kAvx2;
  util::require(std::string_view(name) == "baseline", "FARSKIP_ISA", name,
                "baseline, avx2 or avx512");
  return Level::kBaseline;
}

const Table& choose() {
  [[maybe_unused]] const Level most = allowed();
#ifdef FARSKIP_X86_KERNELS
  __builtin_cpu_init();
  if (most >= Level::kAvx512Bf16 && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq")) {
    return avx512::kTable;
  }
  if (most >= Level::kAvx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return avx2::kTable;
  }
#endif
  return baseline::kTable;
}

}  // namespace

const Table& table() {
  static const Table& chosen = choose();
  return chosen;
}

}  // namespace farskip::kernels::isa
