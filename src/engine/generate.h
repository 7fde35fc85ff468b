// Continues prompts token by token with a KV cache.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "engine/engine_options.h"
#include "engine/sampler.h"
#include "model/model.h"

namespace farskip::engine {

struct GenerateOptions {
  model::Connectivity connectivity;
  /// Several ranks all call generate() with the same prompts. As in EngineOptions: with a reducer
  /// and a group of one all get the same tokens; in a larger group, rank 0 gets all of them.
  model::ExpertRanks ranks = {};
  comm::Group group = {};
  SamplingOptions sampling;
  int64_t max_new_tokens = 128;
  /// Of a prompt and its output together; where it is set it is the limit, not max_new_tokens.
  std::optional<int64_t> max_length = {};
  std::vector<int64_t>
      stop_tokens;  ///< end-of-sequence ids; a stop token is not part of the result
};

struct Generated {
  std::vector<int64_t> tokens;
  bool stopped = false;  ///< by a stop token or the caller, not by max_new_tokens
  double ttft_ms = 0;    ///< time to the first token: prefill and its sample
  double tbt_ms = 0;     ///< mean time between the tokens after it; 0 with fewer than two
};

/// Called with every new token; false ends that sequence.
using OnToken = std::function<bool(size_t sequence, int64_t token)>;

/// Prompts of any lengths, decoded together; each sequence draws from a seed of its own (seed +
/// index). In the order of the prompts; nothing on ranks that follow another. InputError for an
/// empty prompt, tokens outside the vocabulary, or a prompt that leaves nothing of max_length.
std::vector<Generated> generate(const model::Model& model,
                                const std::vector<std::vector<int64_t>>& prompts,
                                const GenerateOptions& options, const OnToken& on_token = {});

}  // namespace farskip::engine
