#include "kernels/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace farskip::kernels {

void parallel_for(int64_t n, int64_t grain, c10::function_ref<void(int64_t, int64_t)> f) {
  at::parallel_for(0, n, std::max<int64_t>(grain, 1),
                   [f](int64_t begin, int64_t end) { f(begin, end); });
}

int64_t grain_for(int64_t bytes) {
  constexpr int64_t kBytesPerThread =
      96 * 1024;  // about 5 us of reading; waking a thread costs 1-2
  return std::max<int64_t>(kBytesPerThread / std::max<int64_t>(bytes, 1), 1);
}

}  // namespace farskip::kernels
