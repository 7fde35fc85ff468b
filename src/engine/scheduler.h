// Which tokens of which sequences the next forward pass works on.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "engine/page_pool.h"
#include "engine/request.h"

namespace farskip::engine {

/// A request on its way through the engine.
struct Sequence {
  Sequence(uint64_t id, Request request);

  uint64_t id;
  Request request;
  Sampler sampler;
  std::vector<int64_t> tokens;      ///< prompt and what came after it
  std::vector<int64_t> pages = {};  ///< of the cache
  int64_t computed = 0;             ///< tokens whose keys and values are there
  bool begun = false;               ///< some pass has worked on it
  int64_t reused = 0;               ///< tokens that the first one found computed
  std::vector<Token> prompt = {};   ///< what was asked for about the prompt's tokens

  int64_t remaining() const { return static_cast<int64_t>(tokens.size()) - computed; }
  int64_t new_tokens() const { return std::ssize(tokens) - std::ssize(request.prompt); }
  /// Whether logits of prompt tokens are still asked for, so that all have to be computed.
  bool wants_prompt() const {
    return request.prompt_log_probabilities && std::ssize(prompt) + 1 < std::ssize(request.prompt);
  }
};

/// One sequence's share of a pass: `count` tokens after those that are computed.
struct Work {
  Sequence* sequence;
  int64_t count;
};

struct SchedulerOptions {
  int64_t max_sequences = 64;
  int64_t max_batch_tokens = 512;
};

/// First come, first served. Running sequences that only add a token go first, so that prompts
/// never hold them up; what is left of the pass is given to prompts, in parts if need be. A
/// sequence is let in when there are pages for all its tokens. If a running one then needs a page
/// and there is none, the sequence that came last gives its own up and queues again, ahead of the
/// others; its tokens are computed again later.
class Scheduler {
 public:
  Scheduler(PagePool& pool, SchedulerOptions options) : pool_(pool), options_(options) {}

  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  /// Empty only if no sequence is there. The pages for the work are taken.
  std::vector<Work> next();
  /// The pass is through: the tokens are computed.
  void done(const Work& work);
  /// Takes a sequence out, waiting or running, and gives its pages back; null if it isn't there.
  std::unique_ptr<Sequence> remove(uint64_t id);
  /// Some sequence that is there.
  std::optional<uint64_t> any() const;

  bool idle() const { return waiting_.empty() && running_.empty(); }
  int64_t waiting() const { return std::ssize(waiting_); }
  int64_t running() const { return std::ssize(running_); }
  int64_t preempted() const { return preempted_; }

 private:
  using Sequences = std::deque<std::unique_ptr<Sequence>>;
  /// Pages for `count` more tokens, at the cost of sequences that came later; false if it was given
  /// up itself.
  bool make_room(Sequence& sequence, int64_t count);
  void preempt_last();
  void admit(int64_t left, std::vector<Work>& works);
  std::unique_ptr<Sequence> take(Sequences& from, Sequences::iterator at);

  PagePool& pool_;
  SchedulerOptions options_;
  Sequences waiting_, running_;  ///< both in the order of arrival
  int64_t preempted_ = 0;
};

}  // namespace farskip::engine
