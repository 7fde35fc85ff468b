// What is asked of the engine, and how it answers.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"

namespace farskip::engine {

/// One sequence to be continued.
struct Request {
  std::vector<int64_t> prompt;  ///< at least one token
  SamplingOptions sampling;
  int64_t max_new_tokens = 128;  ///< 0: only the prompt's log-probabilities are asked for
  /// End-of-sequence ids; a stop token is not part of the result.
  std::vector<int64_t> stop_tokens = {};
  /// With every token its log-probability and so many of the likeliest.
  std::optional<int64_t> log_probabilities = {};
  /// The same of the prompt's tokens from the second on.
  bool prompt_log_probabilities = false;
};

struct Token {
  int64_t id = 0;
  std::optional<LogProbabilities> log_probabilities = {};
};

enum class Finish {
  stop,       ///< a stop token, or the listener said so
  length,     ///< max_new_tokens
  cancelled,  ///< Engine::cancel
  failed,     ///< see Outcome::error
  aborted     ///< the engine failed, all sequences with it; see Outcome::error
};

struct Outcome {
  Finish finish = Finish::stop;
  std::string error = {};     ///< one line
  int64_t prompt_tokens = 0;  ///< of the request
  int64_t reused_tokens = 0;  ///< of them, whose keys and values were there already
  int64_t new_tokens = 0;
  double queued_ms = 0;  ///< until the first work on it
  double ttft_ms = 0;    ///< from submission to the first token; 0 without one
  double tbt_ms = 0;     ///< mean time between the tokens after it; 0 with fewer than two
};

/// Whom a request's sequence is told to. Called on the thread that runs the engine, which waits for
/// it: a listener must not block, and must not call the engine.
class Listener {
 public:
  virtual ~Listener() = default;
  /// The prompt's tokens from the second on, where their log-probabilities were asked for. Comes
  /// before the first token.
  virtual void on_prompt(const std::vector<Token>& /*tokens*/) {}
  /// A new token; false ends the sequence.
  virtual bool on_token(const Token& token) = 0;
  /// Nothing comes after it.
  virtual void on_finish(const Outcome& outcome) = 0;
};

}  // namespace farskip::engine
