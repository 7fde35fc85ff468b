#include "serve/generation_request.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "io/text.h"

namespace farskip::serve {
namespace {

using io::Json, util::concat;

constexpr size_t kMostStops = 64, kLongestStop = 256;

engine::SamplingOptions read_sampling(Parameters& parameters,
                                      const model::GenerationDefaults& defaults) {
  engine::SamplingOptions sampling;
  const auto number = [&](const char* name, double lo, double hi, std::optional<double> model,
                          double otherwise) {
    return parameters.number(name, lo, hi).value_or(model.value_or(otherwise));
  };
  sampling.temperature = number("temperature", 0, 100, defaults.temperature, 1);
  sampling.top_p = number("top_p", 1e-9, 1, defaults.top_p, 1);
  // -1 stands for all, as in vLLM.
  sampling.top_k =
      std::max<int64_t>(0, parameters.integer("top_k", -1).value_or(defaults.top_k.value_or(0)));
  sampling.min_p = number("min_p", 0, 1, defaults.min_p, 0);
  sampling.repetition_penalty =
      number("repetition_penalty", 1e-6, 1e6, defaults.repetition_penalty, 1);
  sampling.presence_penalty = parameters.number("presence_penalty", -2, 2).value_or(0);
  sampling.frequency_penalty = parameters.number("frequency_penalty", -2, 2).value_or(0);
  const auto seed = parameters.integer("seed");
  sampling.seed = seed ? static_cast<uint64_t>(*seed) : std::random_device()();
  return sampling;
}

/// {"50256": -100}: tokens by their ids, and what is added to their logits.
std::vector<std::pair<int64_t, double>> read_logit_bias(Parameters& parameters,
                                                        int64_t vocabulary) {
  std::vector<std::pair<int64_t, double>> bias;
  const auto given = parameters.object("logit_bias");
  if (!given) return bias;
  for (const auto& [key, value] : given->json().items()) {
    int64_t token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0 || token >= vocabulary)
      refuse_field("logit_bias", io::in_quotes(key),
                   concat("token ids from 0 to ", vocabulary - 1, " as keys"));
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100))
      refuse_field("logit_bias", io::shown(value), "numbers from -100 to 100");
    bias.emplace_back(token, value.get<double>());
  }
  return bias;
}

std::vector<std::string> read_stops(Parameters& parameters) {
  const Json& given = parameters.value("stop");
  if (given.is_null()) return {};
  const Json list = given.is_array() ? given : Json::array({given});
  const auto expected =
      concat("a string or up to ", kMostStops, " of them, each of 1 to ", kLongestStop, " bytes");
  if (list.size() > kMostStops) refuse_field("stop", io::shown(list), expected);
  std::vector<std::string> stops;
  for (const Json& stop : list) {
    const size_t size = stop.is_string() ? stop.get_ref<const std::string&>().size() : 0;
    if (size == 0 || size > kLongestStop) refuse_field("stop", io::shown(stop), expected);
    stops.push_back(stop.get<std::string>());
  }
  return stops;
}

std::vector<int64_t> read_stop_tokens(Parameters& parameters, const ServedModel& model) {
  std::vector<int64_t> tokens;
  if (!parameters.boolean("ignore_eos", false)) tokens = model.eos_tokens;
  if (parameters.value("stop_token_ids").is_null()) return tokens;
  const auto more = parameters.integers("stop_token_ids", 0, model.vocabulary - 1);
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

void read_stream(Parameters& parameters, GenerationRequest& request) {
  request.stream = parameters.boolean("stream", false);
  const auto options = parameters.object("stream_options");
  if (!options) return;
  if (!request.stream)
    refuse_field("stream_options", io::shown(options->json()), "it only with \"stream\": true");
  for (const auto& [key, value] : options->json().items())
    if ((key != "include_usage" && key != "include_obfuscation") || !value.is_boolean() ||
        (key == "include_obfuscation" && value == true))
      refuse_field("stream_options", io::shown(options->json()),
                   "{\"include_usage\": true or false}");
  request.include_usage = options->optional_boolean("include_usage").value_or(false);
}

}  // namespace

std::string read_model(Parameters& parameters, const ServedModel& model) {
  const auto name = parameters.string("model").value_or(model.names.front());
  if (std::find(model.names.begin(), model.names.end(), name) == model.names.end())
    throw ApiError(404,
                   concat("model: found ", io::in_quotes(name), ", expected ",
                          io::in_quotes(model.names.front())),
                   "model", "model_not_found");
  return name;
}

GenerationRequest read_common(Parameters& parameters, const ServedModel& model) {
  GenerationRequest request;
  request.model = read_model(parameters, model);
  request.choices = parameters.integer("n", 1, 128).value_or(1);
  request.sampling = read_sampling(parameters, model.defaults);
  request.sampling.logit_bias = read_logit_bias(parameters, model.vocabulary);
  request.output.stops = read_stops(parameters);
  request.output.skip_special_tokens = parameters.boolean("skip_special_tokens", true);
  request.output.include_stop = parameters.boolean("include_stop_str_in_output", false);
  request.stop_tokens = read_stop_tokens(parameters, model);
  read_stream(parameters, request);
  parameters.refuse("min_tokens", 0);
  // They say who asks, and where the request is to be kept or counted.
  parameters.ignore(
      {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier",
       "spaces_between_special_tokens"});  // which only slow tokenizers of transformers look at
  return request;
}

void limit_tokens(Prompt& prompt, std::optional<int64_t> asked, int64_t otherwise,
                  const ServedModel& model) {
  const auto length = static_cast<int64_t>(prompt.tokens.size());
  const int64_t room = model.max_sequence - length;
  const int64_t needed = asked.value_or(1);
  if (needed > room)
    throw ApiError(400,
                   concat("prompt: found ", length, " tokens and ", needed,
                          " to be generated, expected at most ", model.max_sequence,
                          " together, this model's maximum context length"),
                   asked ? "max_tokens" : "prompt", "context_length_exceeded");
  const model::GenerationDefaults& defaults = model.defaults;
  const int64_t rest =
      defaults.max_length.value_or(0) - length;  // of a longer prompt it says nothing
  prompt.max_tokens = asked.value_or(std::min(otherwise, rest > 0 ? std::min(rest, room) : room));
  prompt.max_tokens = std::min(prompt.max_tokens, defaults.max_new_tokens.value_or(room));
}

}  // namespace farskip::serve
