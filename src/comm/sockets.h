// TCP connections between the ranks of a group.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "util/unique_fd.h"

namespace c10d {
class Store;
}

namespace farskip::comm {

/// Bytes that the kernel is asked to hold of a direction.
constexpr int kSocketBuffer = 256 << 10;

/// A connection to each other rank, by rank; the own place is empty. Every rank calls it with a
/// numeric `address` at which the others reach it; ports and passwords go through the store under
/// `name`. Whoever does not know the password is turned away. `send_buffer`: bytes that the kernel
/// is asked to hold of what is sent. std::exception where the others do not come in time.
std::vector<util::UniqueFd> meet(c10d::Store& store, const std::string& name,
                                 const std::string& address, int64_t rank, int64_t size,
                                 std::chrono::milliseconds timeout,
                                 int send_buffer = kSocketBuffer);

}  // namespace farskip::comm
