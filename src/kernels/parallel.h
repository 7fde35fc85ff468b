// The one door to threads for this room: torch's own OpenMP pool.
#pragma once
#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace farskip::kernels {

/// Calls f(begin, end) on disjoint parts that cover [0, n), at most one part a thread of
/// at::get_num_threads(), on the calling thread alone when n <= grain or inside another parallel
/// region. Parts depend on the number of threads, so f must compute the same bits however it is
/// cut. Exceptions of f come out here.
void parallel_for(int64_t n, int64_t grain, c10::function_ref<void(int64_t, int64_t)> f);

/// parallel_for's grain for items of which each moves `bytes` of memory: a thread gets enough work
/// to pay for waking it.
int64_t grain_for(int64_t bytes);

}  // namespace farskip::kernels
