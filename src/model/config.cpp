#include "model/config.h"

#include <algorithm>

#include "io/checkpoint.h"
#include "io/json_file.h"
#include "model/families.h"
#include "util/error.h"

namespace farskip::model {
namespace {

/// A name without what our own form of a checkpoint (forms/form.h) has before it; "" if it is none.
std::string regular_name(const io::Json& name) {
  const std::string given = name.is_string() ? name.get<std::string>() : "";
  for (const std::string_view own : {"Farskip", "farskip_"})
    if (given.starts_with(own)) return given.substr(own.size());
  return given;
}

bool lists(const FamilyEntry& entry, const io::Json& type) {
  return std::find(entry.model_types.begin(), entry.model_types.end(), regular_name(type)) !=
         entry.model_types.end();
}

bool type_is_known(const io::Json& type) {
  return std::any_of(families().begin(), families().end(),
                     [&](const FamilyEntry& entry) { return lists(entry, type); });
}

/// The family that architectures name, or model_type where there are none. Null if there is none,
/// or if model_type names another one.
const FamilyEntry* find_family(const io::Json& json) {
  const auto field = [&](const char* key) { return json.contains(key) ? json[key] : io::Json(); };
  const io::Json architectures = field("architectures"), type = field("model_type");
  const bool unnamed = architectures.is_null() || architectures == io::Json::array();
  const bool one = architectures.is_array() && architectures.size() == 1;
  const FamilyEntry* by_type = nullptr;
  for (const FamilyEntry& entry : families()) {
    if (!by_type && lists(entry, type)) by_type = &entry;
    if (one && regular_name(architectures[0]) == entry.architecture)
      return lists(entry, type) || !type_is_known(type) ? &entry : nullptr;
  }
  return unnamed ? by_type : nullptr;
}

[[noreturn]] void refuse_family(const io::Fields& fields) {
  std::string known;
  for (const FamilyEntry& entry : families()) {
    if (fields.has("architectures") &&
        fields.strings("architectures") == std::vector<std::string>{entry.architecture})
      fields.refuse("model_type",
                    util::concat('"', entry.model_types.front(), "\" with ", entry.architecture));
    known += (known.empty() ? "" : ", ") + std::string(entry.architecture);
  }
  fields.refuse("architectures", "one of " + known);
}

constexpr const char* kText = "text_config";

/// Whether it is a model of text and more, with a part of a known family.
bool has_text_part(const io::Json& json) {
  if (find_family(json) && json.contains("hidden_size")) return false;
  return json.contains(kText) && json[kText].is_object() && find_family(json[kText]);
}

/// What such a model says of its text: the fields of `text_config`, and those beside it that hold
/// for all of the model.
io::Json text_part(const io::Json& json) {
  io::Json text = json[kText];
  for (const char* key :
       {"torch_dtype", "dtype", "eos_token_id", "bos_token_id", "pad_token_id",
        "tie_word_embeddings", "quantization_config", "farskip", "farskip_start_idx",
        "farskip_end_idx", "attn_only_farskip", "mlp_only_farskip", "farskip_lag"})
    if (json.contains(key) && !text.contains(key)) text[key] = json[key];
  text["architectures"] = io::Json::array({find_family(text)->architecture});
  return text;
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

/// Lists with an entry a layer, which must say what is computed.
void check_layer_lists(const io::Fields& fields, const ModelConfig& config) {
  const auto entries = [&](const char* key) {
    auto list = fields.has(key) ? fields.strings(key) : std::vector<std::string>{};
    if (fields.has(key) && std::ssize(list) != config.depth())
      fields.refuse(key, util::concat("an entry for each of the ", config.depth(), " layers"));
    return list;
  };
  const bool windows = fields.has("sliding_window") &&
                       (!fields.has("use_sliding_window") || flag(fields, "use_sliding_window"));
  for (const std::string& type : entries("layer_types"))
    if (type != "full_attention" && (type != "sliding_attention" || windows))
      fields.refuse("layer_types", "\"full_attention\" everywhere (nothing else is supported)");
  const auto mlps = entries("mlp_layer_types");
  for (size_t k = 0; k < mlps.size(); ++k)
    if (const char* is = config.is_moe(k) ? "sparse" : "dense"; mlps[k] != is)
      throw InputError(util::concat(fields.label(), ": mlp_layer_types: found ", io::shown(mlps[k]),
                                    " for layer ", k, ", expected \"", is,
                                    "\", as the fields beside it say"));
}

constexpr const char* kQuantisation[] = {"quantization_config", "compression_config",
                                         "quantization"};

// What quantised tensors and their scales are called by those who write them.
constexpr const char* kScaleNames[] = {"_scale",  "_scale_inv", ".scales", ".qweight",
                                       ".qzeros", ".absmax",    ".biases"};

/// " (fp8)"
std::string quantisation_method(const io::Fields& fields, const char* key) {
  const io::Json& value = fields.json()[key];
  if (!value.is_object() || !value.contains("quant_method")) return "";
  return " (" + io::shown(value["quant_method"]) + ")";
}

/// Whether all tensors beside a config.json are of floating types and none scales another.
bool has_plain_weights(const std::filesystem::path& directory) {
  const bool there = std::filesystem::exists(directory / "model.safetensors") ||
                     std::filesystem::exists(directory / "model.safetensors.index.json");
  if (!there) return false;
  const auto checkpoint = io::Checkpoint::open(directory);
  for (const std::string& name : checkpoint.names()) {
    const at::ScalarType type = checkpoint.entry(name).dtype->type;
    const bool wide =
        type == at::kDouble || type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
    if (!wide || std::any_of(std::begin(kScaleNames), std::end(kScaleNames),
                             [&](const char* end) { return name.ends_with(end); }))
      return false;
  }
  return true;
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
  const bool is_part = has_text_part(io::Fields(json, name).json());
  const io::Json source = is_part ? text_part(json) : json;
  const FamilyEntry* entry = find_family(source);
  if (!entry) refuse_family(io::Fields(source, name));
  ModelConfig config;
  const io::Fields fields(complete(source, name, entry->fields, config.notes), name);
  if (is_part) config.notes.push_back(name + ": of its parts only text_config is read");
  if (fields.has("model_type") && !type_is_known(fields.json()["model_type"]))
    config.notes.push_back(util::concat(name,
                                        ": model_type: ", io::shown(fields.json()["model_type"]),
                                        " is not known; read as ", entry->architecture));
  config.source = source;
  config.family = entry->family;
  config.architecture = entry->architecture;
  config.vocabulary = fields.integer("vocab_size", 2, int64_t{1} << 24);
  config.hidden = fields.integer("hidden_size", 1, kMaxWidth);
  config.layers.resize(fields.integer("num_hidden_layers", 1, 4096));
  config.norm_eps = fields.number("rms_norm_eps", 0, 1);
  config.tied_embeddings = flag(fields, "tie_word_embeddings");
  config.initializer_range = fields.optional_number("initializer_range", 0, 100).value_or(0.02);
  config.max_positions = fields.integer("max_position_embeddings", 1, int64_t{1} << 32);
  config.dtype =
      fields.optional_string("dtype").value_or(fields.optional_string("torch_dtype").value_or(""));
  config.eos_tokens = token_ids(fields, "eos_token_id", config.vocabulary);
  config.bos_token = token_id(fields, "bos_token_id", config.vocabulary);
  config.pad_token = token_id(fields, "pad_token_id", config.vocabulary);
  for (const char* key : kQuantisation)
    if (fields.has(key))
      throw InputError(util::concat(name, ": ", key, ": found a quantised checkpoint",
                                    quantisation_method(fields, key),
                                    ", expected float32, bfloat16 or float16 weights (dequantise "
                                    "it first)"));

  entry->parse(fields, config);
  check_layer_lists(fields, config);
  for (const LayerConfig& layer : config.layers)
    if (layer.moe) check_router(fields, layer.moe->router);
  check_size(config, name);
  config.connectivity = Connectivity::from_json(source, config.depth(), name);
  return config;
}

ModelConfig read_config(const std::filesystem::path& file) {
  io::Json json = io::read_python_json_file(file);
  std::vector<std::string> notes;
  for (const char* key : kQuantisation) {
    if (!json.is_object() || !json.contains(key) || json[key].is_null()) continue;
    if (!has_plain_weights(file.parent_path())) continue;
    notes.push_back(util::concat(file.string(), ": ", key, " is not taken into account",
                                 " (the weights beside it are not quantised)"));
    json.erase(key);
  }
  ModelConfig config = parse_config(json, file.string());
  config.notes.insert(config.notes.end(), notes.begin(), notes.end());
  return config;
}

nlohmann::ordered_json config_with_connectivity(const ModelConfig& config,
                                                const Connectivity& connectivity) {
  nlohmann::ordered_json json = config.source;
  connectivity.to_json(json);
  return json;
}

bool flag(const io::Fields& fields, const char* key) {
  return fields.optional_boolean(key).value_or(false);
}

}  // namespace farskip::model
