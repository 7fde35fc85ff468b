#include "model/generation_defaults.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "io/json_file.h"
#include "model/config_fields.h"
#include "util/error.h"

namespace farskip::model {
namespace {

// Fields that say nothing about which tokens come: special tokens, caches, what `generate` returns,
// how a draft model is used. Those of Qwen-1's files at the end.
constexpr std::string_view kHarmless[] = {"transformers_version",
                                          "_from_model_config",
                                          "_commit_hash",
                                          "bos_token_id",
                                          "pad_token_id",
                                          "decoder_start_token_id",
                                          "use_cache",
                                          "cache_implementation",
                                          "cache_config",
                                          "max_cache_len",
                                          "compile_config",
                                          "disable_compile",
                                          "output_attentions",
                                          "output_hidden_states",
                                          "output_scores",
                                          "output_logits",
                                          "return_dict_in_generate",
                                          "return_legacy_cache",
                                          "generation_kwargs",
                                          "is_assistant",
                                          "num_assistant_tokens",
                                          "num_assistant_tokens_schedule",
                                          "assistant_confidence_threshold",
                                          "prompt_lookup_num_tokens",
                                          "max_matching_ngram_size",
                                          "assistant_early_exit",
                                          "assistant_lookbehind",
                                          "target_lookbehind",
                                          "low_memory",
                                          "trust_remote_code",
                                          "early_stopping",
                                          "length_penalty",
                                          "encoder_repetition_penalty",
                                          "encoder_no_repeat_ngram_size",
                                          "chat_format",
                                          "max_window_size",
                                          "user_token_id",
                                          "assistant_token_id"};

/// Fields that would change outputs, with the values that do not.
struct Neutral {
  const char* key;
  std::vector<io::Json> values;
};
const std::vector<Neutral>& neutral_values() {
  static const std::vector<Neutral> table = {
      {"num_beams", {1}},
      {"num_beam_groups", {1}},
      {"num_return_sequences", {1}},
      {"diversity_penalty", {0}},
      {"penalty_alpha", {0}},
      {"dola_layers", {}},
      {"typical_p", {1}},
      {"epsilon_cutoff", {0}},
      {"eta_cutoff", {0}},
      {"top_h", {}},
      {"no_repeat_ngram_size", {0}},
      {"min_length", {0}},
      {"min_new_tokens", {0}},
      {"max_time", {}},
      {"stop_strings", {io::Json::array()}},
      {"bad_words_ids", {io::Json::array()}},
      {"suppress_tokens", {io::Json::array()}},
      {"begin_suppress_tokens", {io::Json::array()}},
      {"sequence_bias", {io::Json::object()}},
      {"forced_bos_token_id", {}},
      {"forced_eos_token_id", {}},
      {"exponential_decay_length_penalty", {}},
      {"guidance_scale", {1}},
      {"token_healing", {false}},
      {"renormalize_logits", {false, true}},  // of the same distribution
      {"remove_invalid_values", {false}},
      {"watermarking_config", {}},
      {"assistant_ensemble_weight", {}},
      {"speculation_type", {}},
      {"use_mtp", {false}},
      {"constraints", {}},
      {"force_words_ids", {}},
      {"presence_penalty", {0}},
      {"frequency_penalty", {0}},
  };
  return table;
}

constexpr std::string_view kRead[] = {"eos_token_id", "temperature",    "top_p",
                                      "top_k",        "min_p",          "repetition_penalty",
                                      "do_sample",    "max_new_tokens", "max_length"};

template <size_t N>
bool contains(const std::string_view (&keys)[N], const std::string& key) {
  return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
}

/// Whether a field says nothing that is not done anyway.
bool is_neutral(const std::string& key, const io::Json& value) {
  if (value.is_null() || contains(kRead, key) || contains(kHarmless, key)) return true;
  for (const Neutral& field : neutral_values())
    if (key == field.key)
      return std::find(field.values.begin(), field.values.end(), value) != field.values.end();
  return false;
}

}  // namespace

GenerationDefaults parse_generation_defaults(const nlohmann::ordered_json& json,
                                             const std::string& name, int64_t vocabulary) {
  const io::Fields fields(json, name);
  constexpr double kLeast = 1e-9;
  constexpr int64_t kMost = int64_t{1} << 32;
  GenerationDefaults defaults;
  defaults.eos_tokens = token_ids(fields, "eos_token_id", vocabulary);
  const bool samples = fields.optional_boolean("do_sample").value_or(false);
  defaults.temperature = fields.optional_number("temperature", 0, 1e6);
  if (samples && !defaults.temperature) defaults.temperature = 1;
  defaults.top_p = fields.optional_number("top_p", kLeast, 1);
  defaults.top_k = fields.optional_integer("top_k", -1, kMost);
  if (defaults.top_k == -1) defaults.top_k = 0;
  defaults.min_p = fields.optional_number("min_p", 0, 1);
  defaults.repetition_penalty = fields.optional_number("repetition_penalty", kLeast, 1e6);
  defaults.max_new_tokens = fields.optional_integer("max_new_tokens", 1, kMost);
  defaults.max_length = fields.optional_integer("max_length", 1, kMost);

  for (const auto& [key, value] : json.items())
    if (!is_neutral(key, value))
      defaults.notes.push_back(util::concat(name, ": ", io::printable(key), ": ", io::shown(value),
                                            " is not taken into account"));
  if (fields.has("do_sample") && !samples && defaults.temperature.value_or(0) > 0)
    defaults.notes.push_back(
        util::concat(name, ": do_sample: false is not taken into account beside temperature: ",
                     *defaults.temperature, " (transformers would be greedy)"));
  return defaults;
}

GenerationDefaults read_generation_defaults(const std::filesystem::path& directory,
                                            int64_t vocabulary) {
  const auto file = directory / "generation_config.json";
  if (!std::filesystem::exists(file)) return {};
  return parse_generation_defaults(io::read_python_json_file(file), file.string(), vocabulary);
}

std::vector<int64_t> end_tokens(const std::vector<int64_t>& config,
                                const GenerationDefaults& defaults) {
  std::vector<int64_t> all = config;
  for (const int64_t token : defaults.eos_tokens)
    if (std::find(all.begin(), all.end(), token) == all.end()) all.push_back(token);
  return all;
}

}  // namespace farskip::model
