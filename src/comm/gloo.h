// Collectives over c10d's Gloo.
#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <string>

#include "comm/backend.h"
#include "comm/direct.h"

namespace c10d {
class Store;
}
namespace gloo::transport {
class Device;
}

namespace farskip::comm {

/// The network interface: GLOO_SOCKET_IFNAME's where that is set. All groups of a rank share one.
using GlooDevice = std::shared_ptr<gloo::transport::Device>;
GlooDevice gloo_device();

/// Meets the other `size` - 1 ranks over the store under `name`; every rank calls it. Throws
/// whatever c10d throws.
std::shared_ptr<Backend> gloo_backend(const GlooDevice& device,
                                      const c10::intrusive_ptr<c10d::Store>& store,
                                      const std::string& name, int64_t rank, int64_t size,
                                      std::chrono::milliseconds timeout, Precedence precedence);

}  // namespace farskip::comm
