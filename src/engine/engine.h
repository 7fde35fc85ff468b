// Continuous batching: sequences join and leave the batch between two forward passes.
#pragma once
#include <memory>

#include "engine/request.h"
#include "schedule/forward.h"

namespace farskip::engine {

struct EngineOptions {
  model::Connectivity connectivity;
  /// Memory of keys and values; a whole number of pages is made of it.
  int64_t cache_bytes = int64_t{1} << 30;
  /// Sequences that are worked on at once; others queue.
  int64_t max_sequences = 64;
  /// Tokens of one forward pass: of every running sequence one, the rest parts of prompts.
  int64_t max_batch_tokens = 512;
  /// Tokens of prompts whose keys and values are kept after their sequence, for prompts that begin
  /// alike.
  bool reuse_prefixes = true;
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

/// A model and the sequences it continues. A sequence's tokens do not depend on the others in its
/// batch but for the rounding of sums (docs/serving.md says how far). `submit`, `cancel`, `figures`
/// and `wake` may be called from any thread; `step` from one.
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
  Id submit(Request request, std::shared_ptr<Listener> listener);
  /// Ends the sequence before its next token; nothing if it has ended.
  void cancel(Id id);
  /// One forward pass over what is running; false if there was nothing to do.
  bool step();
  /// Waits until there is something to do (true), or until wake() (false).
  bool wait();
  /// Ends a wait(), or the next one.
  void wake();

  /// Longest sequence, prompt and new tokens, that a request may ask for.
  int64_t max_sequence() const;
  EngineFigures figures() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farskip::engine
