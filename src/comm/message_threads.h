// How the operating system treats the threads that carry messages beside a thread that computes.
#pragma once
#include <sched.h>

#include <cstdint>
#include <optional>

namespace farskip::comm {

/// While one lives, threads that the calling thread starts inherit what messages need; afterwards
/// it is as it was. What the machine does not allow is left out: it costs time alone.
///
/// Short slices: a thread that works on a message for some microseconds comes before one that
/// computes for milliseconds, which goes on right after (EEVDF with slices, Linux 6.12).
///
/// Apart from the processor of a rank that has only one: Gloo's thread that moves bytes takes the
/// place of one that has just written some and still holds the connection's lock, and then asks for
/// that lock until its time is up, because the owner can't run. On a processor of their own,
/// threads that write let go of it at once. docs/benchmarks/2026-11-26-inference.md has what it
/// gains.
class MessageThreads {
 public:
  enum class Kind { move, write };
  explicit MessageThreads(Kind kind);
  ~MessageThreads();
  MessageThreads(const MessageThreads&) = delete;
  MessageThreads& operator=(const MessageThreads&) = delete;

 private:
  std::optional<uint64_t> slice_;        ///< to go back to, ns
  std::optional<cpu_set_t> processors_;  ///< to go back to
};

}  // namespace farskip::comm
