// Continuous batching: sequences join and leave the batch between two forward passes.
#pragma once
#include <memory>

#include "engine/engine_options.h"
#include "engine/request.h"
#include "model/model.h"

namespace farskip::engine {

/// What an engine has done and is doing, on all ranks together. Of a rank that follows: nothing to
/// go by.
struct EngineFigures {
  int64_t queued = 0, running = 0;            ///< sequences, now
  int64_t pages = 0, pages_used = 0;          ///< of the cache; used: by sequences that run
  int64_t page_tokens = 0;                    ///< tokens a page
  int64_t steps = 0;                          ///< forward passes; one of all ranks counts once
  int64_t prompt_tokens = 0, new_tokens = 0;  ///< since the beginning
  int64_t reused_tokens = 0;                  ///< of prompts, not computed again
  int64_t preempted = 0;  ///< times a sequence gave its memory up, to be computed again later
};

/// A model and the sequences it continues. A sequence's tokens do not depend on the others in its
/// batch but for the rounding of sums (docs/engine.md says how far). Several ranks have an engine
/// each and make every step together: rank 0 takes requests, tells the others of them, and answers
/// them all; EngineOptions says who works on what. `step`, `wait` and `follow` are called by one
/// thread, everything else by any.
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
  /// One forward pass over what is running, on all ranks; false if there was nothing to do. What it
  /// made has been told to listeners when it returns. What it throws has ended all sequences.
  bool step();
  /// Waits until there is something to do (true), or until wake() (false).
  bool wait();
  /// Ends a wait(), or the next one.
  void wake();
  /// Cancels what runs and lets the other ranks go, by the end of the next step; after that there
  /// are none.
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
