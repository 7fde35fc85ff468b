// Collectives over c10d's NCCL, for tensors on a GPU.
#pragma once
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <string>

#include "comm/backend.h"

namespace c10d {
class Store;
}

namespace farskip::comm {

/// A backend that takes tensors on `device` to the other `size` - 1 ranks, which meet over the
/// store under `name`, and leaves those on the CPU to `cpu`. InputError in a build without NCCL.
/// The wait holds up the device's stream, not the calling thread, and times of arrival are those of
/// the waits.
std::shared_ptr<Backend> nccl_backend(std::shared_ptr<Backend> cpu, c10::Device device,
                                      const c10::intrusive_ptr<c10d::Store>& store,
                                      const std::string& name, int64_t rank, int64_t size,
                                      std::chrono::milliseconds timeout);

}  // namespace farskip::comm
