// How the process gets memory from the system.
#pragma once

namespace farskip::util {

/// Keeps freed memory of up to 2 GiB for the next tensor instead of giving every large one back to
/// the system: activations come and go by the megabyte, and fetching their zeroed pages anew took a
/// sixth of a prefill. And asks for huge pages for large tensors, through LibTorch's own switch
/// (THP_MEM_ALLOC_ENABLE, where the environment does not set it): a core reads weights half as fast
/// again from them. For programs, before anything else; no effect where the C library is not glibc.
void configure_memory();

}  // namespace farskip::util
