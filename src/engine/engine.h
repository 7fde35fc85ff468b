// Continuous batching: sequences join and leave the batch between two forward passes.
#pragma once
#include <memory>

#include "comm/group.h"
#include "engine/request.h"
#include "engine/step_observer.h"
#include "schedule/forward.h"

namespace farskip::engine {

struct EngineOptions {
  model::Connectivity connectivity;
  /// Memory of keys and values; a whole number of pages is made of it.
  int64_t cache_bytes = int64_t{1} << 30;
  /// Tokens a page: what a sequence's memory grows by, and the grain of prefixes that are found
  /// again.
  int64_t page_tokens = 64;
  /// Sequences that are worked on at once; others queue.
  int64_t max_sequences = 64;
  /// Tokens of one forward pass: of every running sequence one, the rest parts of prompts.
  int64_t max_batch_tokens = 512;
  /// Tokens of prompts whose keys and values are kept after their sequence, for prompts that begin
  /// alike.
  bool reuse_prefixes = true;
  /// How passes run on several ranks, which all make the same ones.
  model::ExpertRanks ranks = {};
  /// Of these ranks, to tell each other of requests: rank 0 alone has any, the others follow(). A
  /// group of one where every rank is given the same ones.
  comm::Group group = {};
  /// Looks on; must outlive the engine. Null: nothing is recorded.
  StepObserver* observer = nullptr;
};

/// What an engine has done and is doing.
struct EngineFigures {
  int64_t queued = 0, running = 0;            ///< sequences, now
  int64_t pages = 0, pages_used = 0;          ///< of the cache; used: by sequences that run
  int64_t page_tokens = 0;                    ///< tokens a page
  int64_t steps = 0;                          ///< forward passes
  int64_t prompt_tokens = 0, new_tokens = 0;  ///< since the beginning
  int64_t reused_tokens = 0;                  ///< of prompts, not computed again
  int64_t preempted = 0;  ///< times a sequence gave its memory up, to be computed again later
};

/// Memory for keys and values of so many sequences of so many tokens.
int64_t cache_bytes(const model::Model& model, int64_t sequences, int64_t tokens,
                    int64_t page_tokens = EngineOptions().page_tokens);

/// A model and the sequences it continues. A sequence's tokens do not depend on the others in its
/// batch but for the rounding of sums (docs/engine.md says how far). Several ranks have an engine
/// each and make the same steps: rank 0 tells the others of its requests, and all schedule and
/// sample alike. `step`, `wait` and `follow` are called by one thread, everything else by any.
class Engine {
 public:
  using Id = uint64_t;

  /// `model` must outlive it. InputError for options that leave no room for a sequence.
  Engine(const model::Model& model, EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// InputError, before anything is queued, for an empty prompt, tokens outside the vocabulary,
  /// sampling options out of range, or a sequence longer than the cache or the model's positions.
  /// Error after close() or a failed step.
  Id submit(Request request, std::shared_ptr<Listener> listener);
  /// Ends the sequence before its next token; nothing if it has ended.
  void cancel(Id id);
  /// One forward pass over what is running; false if there was nothing to do. What it throws has
  /// ended all sequences.
  bool step();
  /// Waits until there is something to do (true), or until wake() (false).
  bool wait();
  /// Ends a wait(), or the next one.
  void wake();
  /// Cancels what runs and lets the other ranks go, with the next step; after that there are none.
  void close();
  /// Steps as rank 0 does, until it closes. CommError if it is lost.
  void follow();

  /// Longest sequence, prompt and new tokens, that a request may ask for.
  int64_t max_sequence() const;
  EngineFigures figures() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farskip::engine
