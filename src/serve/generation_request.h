// What is to be generated, whichever endpoint asks for it, and the fields that all of them have.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "model/generation_defaults.h"
#include "serve/parameters.h"
#include "text/chat_template.h"
#include "text/text_output.h"
#include "text/tokenizer.h"

namespace farskip::serve {

/// What requests are read against.
struct ServedModel {
  std::vector<std::string> names;  ///< it answers to all of them; the first is its own
  text::Tokenizer tokenizer;
  std::optional<text::ChatTemplate> chat_template;
  std::string no_template = {};             ///< why there is none, where one could not be read
  model::GenerationDefaults defaults = {};  ///< for what requests leave out
  std::vector<int64_t> eos_tokens;          ///< of all that say what ends an output
  int64_t vocabulary = 0;                   ///< token ids are below it
  int64_t max_sequence = 0;                 ///< prompt and new tokens
};

struct Prompt {
  std::vector<int64_t> tokens;
  std::string text;        ///< what an echo gives back
  int64_t max_tokens = 0;  ///< to be generated
};

struct GenerationRequest {
  enum class Endpoint { completions, chat } endpoint = Endpoint::completions;
  std::string model;  ///< as the client called it
  std::vector<Prompt> prompts;
  int64_t choices = 1;  ///< of each prompt
  engine::SamplingOptions sampling;
  text::TextOutputOptions output;  ///< stop strings, and what is shown
  std::vector<int64_t> stop_tokens;
  bool echo = false;
  /// With every token its log-probability and so many of the likeliest.
  std::optional<int64_t> log_probabilities;
  bool stream = false;
  bool include_usage = false;  ///< at the end of a stream
};

/// The most of the likeliest tokens that are told.
constexpr int64_t kMostLogProbabilities = 20;

/// The fields that all endpoints share: model, n, sampling, stop, stream, and those that are
/// ignored or refused. ApiError 404 for a model that is not served.
GenerationRequest read_common(Parameters& parameters, const ServedModel& model);
/// `model`, or the first of the names where it is absent. ApiError 404.
std::string read_model(Parameters& parameters, const ServedModel& model);

/// Sets prompt.max_tokens: what is asked for, else what is left of the context or of the model's
/// max_length, at most `otherwise`; never more than the model's max_new_tokens. ApiError 400 where
/// it does not fit.
void limit_tokens(Prompt& prompt, std::optional<int64_t> asked, int64_t otherwise,
                  const ServedModel& model);

}  // namespace farskip::serve
