#include "kernels/parallel.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>

namespace farskip::kernels {

TEST(Parallel, CoversTheRangeOnceOnTorchsThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::vector<std::atomic<int>> seen(1001);
  std::atomic<int> parts = 0;
  parallel_for(1001, 10, [&](int64_t begin, int64_t end) {
    ++parts;
    for (int64_t i = begin; i < end; ++i) ++seen[i];
  });
  for (const auto& count : seen) EXPECT_EQ(count, 1);
  EXPECT_EQ(parts, 2) << "parallel.cpp was not compiled with OpenMP";
  parts = 0;
  parallel_for(1001, 1001, [&](int64_t, int64_t) { ++parts; });
  EXPECT_EQ(parts, 1);
  parallel_for(0, 1, [&](int64_t, int64_t) { ADD_FAILURE() << "an empty range"; });
  EXPECT_THROW(parallel_for(100, 1, [](int64_t, int64_t) { throw std::runtime_error("x"); }),
               std::runtime_error);
  at::set_num_threads(threads);
}

TEST(Parallel, OnlyOneOpenMpRuntimeIsLoaded) {
  std::set<std::string> runtimes;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path = line.find('/');
    if (path == std::string::npos) continue;
    const std::string file = line.substr(line.rfind('/') + 1);
    for (const std::string name : {"libgomp", "libomp", "libiomp"}) {
      if (file.starts_with(name)) runtimes.insert(line.substr(path));
    }
  }
  EXPECT_EQ(runtimes.size(), 1) << testing::PrintToString(runtimes);
}

}  // namespace farskip::kernels
