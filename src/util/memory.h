// How the process gets memory from the system.
#pragma once

namespace farskip::util {

/// Keeps freed memory of up to some GiB for the next tensor instead of giving every large one back
/// to the system: activations come and go by the megabyte, and fetching their zeroed pages anew
/// took a sixth of a prefill. For programs, to be called before anything else; no effect where the
/// C library is not glibc.
void keep_freed_memory();

}  // namespace farskip::util
