// What generation_config.json says: how a model is meant to be sampled, and where its output ends.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace farskip::model {

/// Values for what a request leaves out, taken as vLLM's `--generation-config auto` takes them;
/// nothing: the file is silent, and the verb's own default holds. `do_sample` chooses nothing, as
/// in vLLM (transformers would be greedy without it), but for one case: true without a temperature
/// means 1, the default of both.
struct GenerationDefaults {
  /// Ids that end an output besides those of config.json.
  std::vector<int64_t> eos_tokens = {};
  std::optional<double> temperature = {};         ///< 0 = greedy
  std::optional<double> top_p = {};               ///< above 0, up to 1
  std::optional<int64_t> top_k = {};              ///< 0: all tokens (the file may say -1)
  std::optional<double> min_p = {};               ///< 0 to 1
  std::optional<double> repetition_penalty = {};  ///< above 0
  std::optional<int64_t> max_new_tokens = {};     ///< of an output; goes before max_length
  std::optional<int64_t> max_length = {};         ///< of prompt and output (vLLM does not read it)
  /// What the file says besides and would change outputs elsewhere, one line each.
  std::vector<std::string> notes = {};

  bool operator==(const GenerationDefaults&) const = default;
};

/// Those of a model's directory; nothing is set where it has no generation_config.json. InputError
/// names the first field that can't be what it should be.
GenerationDefaults read_generation_defaults(const std::filesystem::path& directory,
                                            int64_t vocabulary);
/// The same from parsed JSON; `name` is what errors call it.
GenerationDefaults parse_generation_defaults(const nlohmann::ordered_json& json,
                                             const std::string& name, int64_t vocabulary);

/// config.json's end tokens, then those that generation_config.json adds, each once: what ends an
/// output unless that is asked to be ignored.
std::vector<int64_t> end_tokens(const std::vector<int64_t>& config,
                                const GenerationDefaults& defaults);

}  // namespace farskip::model
