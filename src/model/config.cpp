#include "model/config.h"

#include <cmath>

#include "io/json_file.h"
#include "model/families.h"
#include "util/error.h"

namespace farskip::model {
namespace {

const FamilyEntry& find_family(const io::Fields& fields) {
  const auto architectures = fields.strings("architectures");
  for (const FamilyEntry& entry : families())
    if (architectures.size() == 1 && architectures.front() == entry.architecture) return entry;
  std::string known;
  for (const FamilyEntry& entry : families())
    known += (known.empty() ? "" : ", ") + std::string(entry.architecture);
  fields.refuse("architectures", "one of " + known);
}

/// An id, or a list of them, each within the vocabulary.
std::vector<int64_t> token_ids(const io::Fields& fields, const char* key, int64_t vocabulary) {
  if (!fields.has(key)) return {};
  if (fields.json()[key].is_array()) return fields.integers(key, 0, vocabulary - 1);
  return {fields.integer(key, 0, vocabulary - 1)};
}

std::optional<int64_t> token_id(const io::Fields& fields, const char* key, int64_t vocabulary) {
  // Some files say -1 for "none".
  if (fields.has(key) && fields.json()[key] == -1) return std::nullopt;
  return fields.optional_integer(key, 0, vocabulary - 1);
}

void check_router(const io::Fields& fields, const RouterConfig& router) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(fields.label() + ": " + what);
  };
  if (router.top_k > router.experts)
    refuse(util::concat("num_experts_per_tok: found ", router.top_k, ", expected at most the ",
                        router.experts, " experts"));
  if (router.experts % router.groups != 0)
    refuse(util::concat("n_group: found ", router.groups, ", expected a divisor of the ",
                        router.experts, " experts"));
  const int64_t group_size = router.experts / router.groups;
  if (router.groups_kept > router.groups)
    refuse(util::concat("topk_group: found ", router.groups_kept,
                        ", expected at most n_group = ", router.groups));
  if (router.groups_kept * group_size < router.top_k)
    refuse(util::concat("topk_group: found ", router.groups_kept, " groups of ", group_size,
                        " experts, expected at least num_experts_per_tok = ", router.top_k,
                        " experts in them"));
  if (router.selection == ExpertSelection::group_top2_biased && group_size < 2)
    refuse(util::concat("n_group: found ", router.groups, " groups of ", group_size,
                        " expert, expected at least 2 experts a group"));
}

/// Sizes that are plausible one by one may not be so together; what passes here fits int64 in every
/// sum over the model, and the list of its tensors fits memory.
void check_size(const ModelConfig& config, const std::string& name) {
  double parameters = 2.0 * config.vocabulary * config.hidden;
  int64_t experts = 0;
  for (const LayerConfig& layer : config.layers) {
    const AttentionConfig& attention = layer.attention;
    const double rows = static_cast<double>(attention.heads + attention.kv_heads) *
                            (attention.qk_dim() + attention.nope_dim + 3 * attention.v_dim) +
                        attention.qk_dim();
    parameters += rows * (config.hidden + attention.q_rank + attention.kv_rank);
    const double width =
        layer.moe ? static_cast<double>(layer.moe->router.experts) * layer.moe->expert_width +
                        layer.moe->shared_width
                  : layer.dense_width;
    parameters += 3 * width * config.hidden;
    experts += layer.moe ? layer.moe->router.experts : 0;
  }
  util::require(parameters < 1e15, name + ": sizes", util::concat(parameters, " parameters"),
                "fewer than 1e15");
  util::require(experts <= int64_t{1} << 20, name + ": sizes",
                util::concat(experts, " experts in all layers"), "at most 2^20");
}

}  // namespace

ModelConfig parse_config(const nlohmann::ordered_json& json, const std::string& name) {
  const io::Fields fields(json, name);
  const FamilyEntry& entry = find_family(fields);
  ModelConfig config;
  config.source = json;
  config.family = entry.family;
  config.architecture = entry.architecture;
  config.vocabulary = fields.integer("vocab_size", 2, int64_t{1} << 24);
  config.hidden = fields.integer("hidden_size", 1, kMaxWidth);
  config.layers.resize(fields.integer("num_hidden_layers", 1, 4096));
  config.norm_eps = fields.optional_number("rms_norm_eps", 0, 1).value_or(1e-6);
  config.tied_embeddings = fields.optional_boolean("tie_word_embeddings").value_or(false);
  config.initializer_range = fields.optional_number("initializer_range", 0, 100).value_or(0.02);
  config.max_positions = fields.integer("max_position_embeddings", 1, int64_t{1} << 32);
  config.dtype =
      fields.optional_string("torch_dtype").value_or(fields.optional_string("dtype").value_or(""));
  config.eos_tokens = token_ids(fields, "eos_token_id", config.vocabulary);
  config.bos_token = token_id(fields, "bos_token_id", config.vocabulary);
  config.pad_token = token_id(fields, "pad_token_id", config.vocabulary);

  only(fields, "hidden_act", "silu");
  only(fields, "attention_dropout", 0.0);
  only(fields, "mlp_bias", false);
  only(fields, "pretraining_tp", 1);
  if (fields.has("quantization_config"))
    throw InputError(name +
                     ": quantization_config: found a quantised checkpoint, expected float32, "
                     "bfloat16 or float16 weights "
                     "(dequantise it first)");

  entry.parse(fields, config);
  for (const LayerConfig& layer : config.layers)
    if (layer.moe) check_router(fields, layer.moe->router);
  check_size(config, name);
  config.connectivity = Connectivity::from_json(json, config.depth(), name);
  return config;
}

ModelConfig read_config(const std::filesystem::path& file) {
  return parse_config(io::read_json_file(file), file.string());
}

nlohmann::ordered_json config_with_connectivity(const ModelConfig& config,
                                                const Connectivity& connectivity) {
  nlohmann::ordered_json json = config.source;
  connectivity.to_json(json);
  return json;
}

double yarn_mscale(double factor, double m) {
  return factor > 1 ? 0.1 * m * std::log(factor) + 1.0 : 1.0;
}

void only(const io::Fields& fields, const char* key, const io::Json& supported) {
  if (!fields.has(key)) return;
  if (fields.json()[key] != supported)
    fields.refuse(key, supported.dump() + " (nothing else is supported)");
}

std::optional<io::Fields> rope_scaling(const io::Fields& fields) {
  auto scaling = fields.optional_object("rope_scaling");
  return scaling ? scaling : fields.optional_object("rope_parameters");
}

RopeConfig parse_rope(const io::Fields& fields, int64_t dim, bool interleaved,
                      int64_t max_positions) {
  RopeConfig rope;
  rope.dim = dim;
  rope.interleaved = interleaved;
  if (dim % 2 != 0)
    throw InputError(util::concat(fields.label(), ": rotary head size: found ", dim,
                                  ", expected an even number"));
  only(fields, "partial_rotary_factor", 1.0);
  const auto scaling = rope_scaling(fields);
  const auto inner_theta =
      scaling ? scaling->optional_number("rope_theta", 1e-3, 1e15) : std::nullopt;
  rope.theta =
      fields.optional_number("rope_theta", 1e-3, 1e15).value_or(inner_theta.value_or(10000.0));
  if (!scaling) return rope;

  const char* key = scaling->has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling->optional_string(key).value_or("default");
  if (type == "default") return rope;
  if (type != "yarn") scaling->refuse(key, "\"yarn\" or \"default\"");
  YarnConfig yarn;
  yarn.factor = scaling->number("factor", 1.0, 1e6);
  yarn.beta_fast = scaling->optional_number("beta_fast", 1e-6, 1e6).value_or(32);
  yarn.beta_slow = scaling->optional_number("beta_slow", 1e-6, 1e6).value_or(1);
  if (yarn.beta_fast < yarn.beta_slow)
    scaling->refuse("beta_fast", util::concat("at least beta_slow = ", yarn.beta_slow));
  yarn.original_positions =
      scaling->optional_integer("original_max_position_embeddings", 1, int64_t{1} << 32)
          .value_or(max_positions);
  yarn.truncate = scaling->optional_boolean("truncate").value_or(true);
  const double mscale = scaling->optional_number("mscale", 0, 100).value_or(0);
  const double mscale_all = scaling->optional_number("mscale_all_dim", 0, 100).value_or(0);
  const double derived = mscale != 0 && mscale_all != 0 ? yarn_mscale(yarn.factor, mscale) /
                                                              yarn_mscale(yarn.factor, mscale_all)
                                                        : yarn_mscale(yarn.factor, 1);
  yarn.attention_factor = scaling->optional_number("attention_factor", 0, 1e3).value_or(derived);
  rope.yarn = yarn;
  return rope;
}

}  // namespace farskip::model
