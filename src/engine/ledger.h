// Whom the open sequences belong to.
#pragma once
#include <chrono>
#include <map>
#include <memory>

#include "engine/placement.h"
#include "engine/step_messages.h"

namespace farskip::engine {

using Clock = std::chrono::steady_clock;

/// Since the beginning; of prompts that were worked on.
struct TokenCounts {
  int64_t prompt = 0, reused = 0, generated = 0;
};

/// Tells listeners what becomes of their sequences, and says when. Whatever it does not know has
/// ended, or is answered by another rank. Used by one thread.
class Ledger {
 public:
  using Id = uint64_t;

  explicit Ledger(Placement placement) : placement_(std::move(placement)) {}

  /// -> the rank that shall work on it
  int64_t open(Id id, const Request& request, std::shared_ptr<Listener> listener,
               Clock::time_point submitted);
  /// `stepped`: when the step began. False if the listener has ended the sequence, which a rank
  /// still works on.
  bool deliver(const Progress& progress, Clock::time_point stepped);
  /// False if it has ended.
  bool end(Id id, Finish finish, const std::string& error = {});
  void end_all(Finish finish, const std::string& error);

  int64_t size() const { return std::ssize(open_); }
  const TokenCounts& counts() const { return counts_; }

 private:
  struct Entry {
    std::shared_ptr<Listener> listener;
    Place place;
    int64_t prompt_tokens = 0, reused_tokens = 0, new_tokens = 0;
    Clock::time_point submitted, begun = {}, first_token = {}, last_token = {};
  };
  static Outcome outcome(const Entry& entry, Finish finish, const std::string& error);

  Placement placement_;
  std::map<Id, Entry> open_;
  TokenCounts counts_;
};

}  // namespace farskip::engine
