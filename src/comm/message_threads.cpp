#include "comm/message_threads.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace farskip::comm {
namespace {

constexpr uint64_t kSlice = 100'000;  // ns, the least that Linux takes

/// The kernel's struct sched_attr, first version, which not every libc declares.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};

/// Gives the calling thread slices of so many nanoseconds, 0: the machine's; returns what they
/// were. Nothing for a thread that an administrator has given another policy.
std::optional<uint64_t> exchange_slice(uint64_t slice) {
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 ||
      attributes.policy != SCHED_OTHER)
    return std::nullopt;
  const uint64_t before = std::exchange(attributes.runtime, slice);
  attributes.size = sizeof attributes;
  if (syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) return std::nullopt;
  return before;
}

/// Of the processors of whoever started this process, those that are not its own, if that is one.
std::optional<cpu_set_t> processors_beside(const cpu_set_t& own) {
  cpu_set_t all, others;
  if (CPU_COUNT(&own) != 1 || sched_getaffinity(getppid(), sizeof all, &all) != 0)
    return std::nullopt;
  CPU_XOR(&others, &all, &own);
  CPU_AND(&others, &others, &all);
  if (CPU_COUNT(&others) == 0) return std::nullopt;
  return others;
}

}  // namespace

MessageThreads::MessageThreads(Kind kind) : slice_(exchange_slice(kSlice)) {
  cpu_set_t own;
  if (kind != Kind::write || sched_getaffinity(0, sizeof own, &own) != 0) return;
  const auto others = processors_beside(own);
  if (others && sched_setaffinity(0, sizeof *others, &*others) == 0) processors_ = own;
}

MessageThreads::~MessageThreads() {
  if (slice_) exchange_slice(*slice_);
  if (processors_) sched_setaffinity(0, sizeof *processors_, &*processors_);
}

}  // namespace farskip::comm
