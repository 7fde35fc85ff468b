// A network of limited rate between ranks of this machine.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "util/unique_fd.h"

namespace farskip::comm {

/// What one rank can send, and at the same time receive.
struct LinkRate {
  std::string text;  ///< as given
  int64_t bits_per_second = 0;
};

/// tc's spelling: a number, decimals allowed, and kbit, mbit or gbit (powers of 1000), in any case:
/// 500mbit, 2.5gbit. InputError, under the option's name, for anything else and for rates that
/// this emulation cannot hold (below 100kbit, above 10gbit).
LinkRate link_rate(const std::string& text);

/// A switch and one cable a rank, each limited to the rate in both directions by a token bucket
/// (frame headers count, as on a wire); between two ranks one cable, which does the same and leaves
/// more of the processors to what the ranks compute. IPv4; nothing leads out.
///
/// All of it is anonymous: network namespaces that only this process, and the ranks once they have
/// entered, hold on to. Nothing can collide with what the machine has, and the kernel takes it
/// away with the last of these processes, however they end.
class EmulatedNetwork {
 public:
  static constexpr const char* kInterface = "link0";          ///< every rank's end of its cable
  static constexpr const char* kFirstAddress = "198.18.0.1";  ///< rank 0's

  /// Moves the calling process, which has one thread, into the namespace of the switch for good
  /// (without root: into a user namespace too, as its root), and makes the ranks' beside it.
  /// InputError, one line, where the machine lacks iproute2, the permission, or a kernel that can.
  EmulatedNetwork(int64_t ranks, const LinkRate& rate);

  /// Moves the calling process, a child of the maker, into the namespace of a rank. False, with
  /// errno, where the kernel refuses.
  bool enter(int64_t rank) const;

 private:
  util::UniqueFd switch_;
  std::vector<util::UniqueFd> ranks_;
};

}  // namespace farskip::comm
