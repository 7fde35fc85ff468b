// Expert traffic: rows of bytes to ranks that do not know how many they will get.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "comm/group.h"
#include "comm/message_log.h"

namespace farskip::comm {

/// Rows to or from each rank.
using Splits = std::vector<int64_t>;

/// Sends rows over a group. Whoever gets a dispatch learns its size from a small message ahead of
/// it; a thread of the courier's waits for that one, so that the compute thread launches and goes
/// on. Everything is launched in the order of the calls, which every rank must make alike: the
/// small message carries a hash of all names so far and refuses another order (CommError). Used by
/// one thread.
class Courier {
 public:
  /// `rows` and `counts`: two groups of the same ranks, used by this courier alone.
  Courier(Group rows, Group counts);
  /// Where an error is on its way, messages that are still in flight are left to the process's end.
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  const Group& group() const;

  /// rows [n, width], sent[r] of them to rank r, grouped by rank -> the rows that come here,
  /// grouped by rank. `received` is filled before the wait returns.
  Pending dispatch(const MessageName& name, const at::Tensor& rows, Splits sent,
                   std::shared_ptr<Splits> received);
  /// The same where the receiver knows.
  Pending send(const MessageName& name, const at::Tensor& rows, Splits sent, Splits received);

  /// `own` numbers of every rank, as many on each -> int64 [size, own.size()]. Its wait refuses
  /// another order of messages, as that of a dispatch does.
  Pending tell(const MessageName& name, const std::vector<int64_t>& own);
  /// The rows [counts[rank], width] of every rank -> [sum of counts, width], in the order of the
  /// ranks, all of which know the counts.
  Pending all_gather(const MessageName& name, const at::Tensor& rows, const Splits& counts);
  /// x [sum of counts, width], of which counts[r] rows are for rank r -> the sum over the ranks of
  /// what they have for this one [counts[rank], width], in x's dtype. It travels as `wire` and is
  /// added up in the order of the ranks with one rounding.
  Pending reduce_scatter(const MessageName& name, const at::Tensor& x, const Splits& counts,
                         at::ScalarType wire);

  /// Where messages are recorded as they are waited for; null: nowhere. Must outlive its use.
  void record(MessageLog* log);
  /// Most bytes that were in flight at once, sent and received, since the last call.
  int64_t take_peak_bytes();

 private:
  struct State;
  /// The hash as it will be when this message has been added.
  int64_t order_with(const MessageName& name) const;
  Pending carry(const MessageName& name, const at::Tensor& rows, const Splits& sent, bool by_thread,
                std::function<std::unique_ptr<Work>()> launch);

  std::shared_ptr<State> state_;
};

}  // namespace farskip::comm
