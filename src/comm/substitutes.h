// Groups for measuring and testing: one without a network, one whose messages are late.
#pragma once
#include <chrono>

#include "comm/group.h"

namespace farskip::comm {

/// A group of `size` ranks of which only this one exists: what another rank would send is a copy of
/// what this one sends, of equal size. The same compute as a real group's without any network: the
/// bound that overlapped execution is held against. The results mean nothing.
Group without_network(int64_t rank, int64_t size);

/// The group with every message late by a random time of up to `most`, so that a read which does
/// not wait is wrong, and an order that depends on arrival shows.
Group delayed(const Group& group, uint64_t seed, std::chrono::microseconds most);

}  // namespace farskip::comm
