#include "forms/form.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::forms {
namespace {

using Json = nlohmann::ordered_json;
using model::Family;
using model::ModelConfig;

/// Names that a family goes by. Ours are "Farskip" or "farskip_" before `own`.
struct Names {
  std::string architecture, type, own;
};

Names names_of(const ModelConfig& config) {
  switch (config.family) {
    case Family::deepseek_v2:
      return {"DeepseekV2ForCausalLM", "deepseek_v2", "deepseek_v2"};
    case Family::instella_moe:
      if (config.layers.front().attention.gated)
        return {"InstellaMoEForCausalLM", "deepseek_v3", "instella_moe"};
      [[fallthrough]];  // without gates it is DeepSeek-V3
    case Family::deepseek_v3:
      return {"DeepseekV3ForCausalLM", "deepseek_v3", "deepseek_v3"};
    case Family::qwen3_moe:
      return {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3_moe"};
  }
  throw Error("a family of no known name");
}

bool absent(const Json& json, const char* key) {
  return !json.contains(key) || json[key].is_null();
}

void fill(Json& json, const char* key, Json value) {
  if (absent(json, key)) json[key] = std::move(value);
}

/// Takes the classes of a model away; those of a tokenizer stay.
void drop_model_classes(Json& json) {
  if (absent(json, "auto_map") || !json["auto_map"].is_object()) return;
  Json kept = Json::object();
  for (const auto& [key, value] : json["auto_map"].items())
    if (key != "AutoConfig" && !key.starts_with("AutoModel")) kept[key] = value;
  if (kept.empty())
    json.erase("auto_map");
  else
    json["auto_map"] = kept;
}

void add_model_classes(Json& json, const Names& names) {
  drop_model_classes(json);
  const std::string causal = "Farskip" + names.architecture;
  const std::string stem =
      "modeling_farskip." + causal.substr(0, causal.size() - std::string("ForCausalLM").size());
  if (!json.contains("auto_map")) json["auto_map"] = Json::object();
  json["auto_map"]["AutoConfig"] = stem + "Config";
  json["auto_map"]["AutoModel"] = stem + "Model";
  json["auto_map"]["AutoModelForCausalLM"] = stem + "ForCausalLM";
}

enum class RopeKeys {
  old,  ///< rope_theta, and rope_scaling with `type`: all readers of regular models know them
  now,  ///< transformers 5's rope_parameters, which it reads even where it may not run our classes
};

void write_rope(Json& json, const model::RopeConfig& rope, RopeKeys keys) {
  Json scaling = Json::object();
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (!absent(json, key) && json[key].is_object() && json[key].contains("factor"))
      scaling = json[key];
  for (const char* key : {"rope_type", "type", "rope_theta"}) scaling.erase(key);
  for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta"}) json.erase(key);
  if (!rope.yarn) scaling.clear();
  if (keys == RopeKeys::old) {
    json["rope_theta"] = rope.theta;
    json["rope_scaling"] = nullptr;
    if (rope.yarn) (json["rope_scaling"] = scaling)["type"] = "yarn";
  } else {
    scaling["rope_type"] = rope.yarn ? "yarn" : "default";
    scaling["rope_theta"] = rope.theta;
    json["rope_parameters"] = scaling;
  }
}

/// Without FarSkip, under the family's own names. A model_type (kimi_k2) and auto_map that are the
/// family's own already stay.
Json without_farskip(const ModelConfig& config, const Names& names) {
  Json json = model::config_with_connectivity(config, model::Connectivity::regular(config.depth()));
  json.erase("farskip");
  const Json architectures = Json::array({names.architecture});
  if (!json.contains("architectures") || json["architectures"] != architectures) {
    json["architectures"] = architectures;
    json["model_type"] = names.type;
    drop_model_classes(json);
    write_rope(json, config.layers.front().attention.rope, RopeKeys::old);
  }
  if (names.architecture == "InstellaMoEForCausalLM") {
    json["farskip"] = false;
  } else {
    json.erase("gated_attention");
    json.erase("qk_layernorm");
  }
  return json;
}

int64_t leading_dense_layers(const ModelConfig& config) {
  int64_t dense = 0;
  while (dense < config.depth() && !config.is_moe(dense)) ++dense;
  return dense;
}

/// Fields that transformers 5 wants to be integers, which some files write as 64.0.
constexpr const char* kWhole[] = {"vocab_size",
                                  "hidden_size",
                                  "num_hidden_layers",
                                  "intermediate_size",
                                  "moe_intermediate_size",
                                  "num_attention_heads",
                                  "num_key_value_heads",
                                  "num_experts_per_tok",
                                  "n_routed_experts",
                                  "num_experts",
                                  "num_local_experts",
                                  "n_shared_experts",
                                  "n_group",
                                  "topk_group",
                                  "first_k_dense_replace",
                                  "q_lora_rank",
                                  "kv_lora_rank",
                                  "qk_nope_head_dim",
                                  "qk_rope_head_dim",
                                  "v_head_dim",
                                  "head_dim",
                                  "decoder_sparse_step",
                                  "moe_layer_freq",
                                  "max_position_embeddings"};

/// Says everything that readers would fill in by other defaults than ours.
void fill_defaults(Json& json, const ModelConfig& config) {
  for (const char* key : kWhole)
    if (json.contains(key) && json[key].is_number_float()) json[key] = json[key].get<int64_t>();
  if (config.max_positions > 0) fill(json, "max_position_embeddings", config.max_positions);
  fill(json, "rms_norm_eps", config.norm_eps);
  const model::AttentionConfig& attention = config.layers.front().attention;
  const auto moe = std::find_if(config.layers.begin(), config.layers.end(),
                                [](const model::LayerConfig& layer) { return !!layer.moe; });
  fill(json, "attention_bias", attention.output_bias);
  fill(json, "num_key_value_heads", attention.kv_heads);
  fill(json, "tie_word_embeddings", config.tied_embeddings);
  if (config.family == Family::qwen3_moe) {
    fill(json, "head_dim", attention.rope_dim);
    fill(json, "mlp_only_layers", Json::array());
    fill(json, "decoder_sparse_step", 1);
    if (moe == config.layers.end()) return;
    fill(json, "num_experts", moe->moe->router.experts);
    fill(json, "norm_topk_prob", moe->moe->router.normalise);
    return;
  }
  json["rope_interleave"] = attention.rope.interleaved;
  if (attention.q_rank == 0)
    json["q_lora_rank"] = nullptr;
  else
    fill(json, "q_lora_rank", attention.q_rank);
  fill(json, "first_k_dense_replace", leading_dense_layers(config));
  fill(json, "moe_layer_freq", 1);
  fill(json, "n_shared_experts", 0);
  if (moe == config.layers.end()) return;
  const model::RouterConfig& router = moe->moe->router;
  const bool v2 = config.family == Family::deepseek_v2;
  fill(json, "n_routed_experts", router.experts);
  fill(json, "scoring_func", v2 ? "softmax" : "sigmoid");
  fill(json, "topk_method", v2 ? "greedy" : "noaux_tc");
  fill(json, "n_group", router.groups);
  fill(json, "topk_group", router.groups_kept);
  fill(json, "norm_topk_prob", router.normalise);
  fill(json, "routed_scaling_factor", router.scale);
}

Description hf(const ModelConfig& config, const model::Connectivity& connectivity,
               const Names& names) {
  Json json = without_farskip(config, names);
  fill_defaults(json, config);
  if (names.own == "instella_moe") json["gated_attention"] = true;
  connectivity.to_json(json);
  json["architectures"] = Json::array({"Farskip" + names.architecture});
  json["model_type"] = "farskip_" + names.own;
  add_model_classes(json, names);
  write_rope(json, config.layers.front().attention.rope, RopeKeys::now);
  return {std::move(json), {{kModelingFile, kModelingSource}}, {}};
}

void refuse_in_amd(const std::string& found, const std::string& expected) {
  throw InputError("--form amd: found " + found + ", expected " + expected);
}

void check_amd(const ModelConfig& config, const model::Connectivity& connectivity) {
  const std::string others = " (its code reads no other; --form hf says it)";
  if (config.family != Family::deepseek_v3 && config.family != Family::instella_moe)
    refuse_in_amd(config.architecture, "DeepSeek-V3, Moonlight, Kimi-K2 or Instella-MoE" + others);
  if (connectivity.lag() != 1)
    refuse_in_amd(util::concat("farskip_lag ", connectivity.lag()), "1" + others);
  if (config.layers.front().attention.output_bias)
    refuse_in_amd("attention_bias", "projections without" + others);
  bool sparse = false;
  for (const model::LayerConfig& layer : config.layers) {
    if (sparse && !layer.moe)
      refuse_in_amd("a dense layer after a MoE layer", "dense layers first" + others);
    sparse = sparse || layer.moe;
    if (layer.moe && layer.moe->shared_width == 0)
      refuse_in_amd("no shared experts", "n_shared_experts of at least 1" + others);
  }
}

Description amd(const ModelConfig& config, const model::Connectivity& connectivity,
                const Names& names, bool auto_map) {
  check_amd(config, connectivity);
  Json json = without_farskip(config, names);
  fill_defaults(json, config);
  write_rope(json, config.layers.front().attention.rope, RopeKeys::old);
  json["first_k_dense_replace"] = leading_dense_layers(config);
  json["moe_layer_freq"] = 1;
  if (json.contains("dtype")) {
    json["torch_dtype"] = json["dtype"];
    json.erase("dtype");
  }
  json["gated_attention"] = names.own == "instella_moe";
  json["qk_layernorm"] = true;  // the latent norms, which all of these models have
  connectivity.to_json(json);
  json["architectures"] = Json::array({"InstellaMoEForCausalLM"});
  json["model_type"] = "deepseek_v3";
  if (auto_map)
    add_model_classes(json, names);
  else
    drop_model_classes(json);
  Description described{std::move(json), {{kModelingFile, std::nullopt}}, {}};
  if (auto_map) described.files[kModelingFile] = kModelingSource;
  described.notes.push_back(
      "readers that go by model_type, transformers without trust_remote_code among them, take this "
      "form for a regular DeepSeek-V3 without a word (--form hf: they refuse it)");
  if (connectivity.describe() !=
      model::Connectivity(model::ConnectivityKind::farskip, {0, config.depth()}, config.depth())
          .describe())
    described.notes.push_back(
        "AMD's SGLang build reads neither ranges nor parts: it runs every "
        "layer as farskip (" +
        connectivity.describe() + ", in transformers)");
  return described;
}

}  // namespace

Form parse_form(const std::string& text) {
  if (text == "hf") return Form::hf;
  if (text == "amd") return Form::amd;
  if (text == "regular") return Form::regular;
  throw InputError("--form: found \"" + text + "\", expected hf, amd or regular");
}

Description describe(const ModelConfig& config, const model::Connectivity& connectivity, Form form,
                     const DescribeOptions& options) {
  const Names names = names_of(config);
  if (form == Form::regular)
    return {without_farskip(config, names), {{kModelingFile, std::nullopt}}, {}};
  if (connectivity.is_regular())
    throw InputError(util::concat("--form ", form == Form::hf ? "hf" : "amd",
                                  ": found a regular model, expected --connectivity farskip, "
                                  "attention or moe with it, or --form regular"));
  return form == Form::hf ? hf(config, connectivity, names)
                          : amd(config, connectivity, names, options.auto_map);
}

void save(const model::Model& model, const model::Connectivity& connectivity,
          const std::filesystem::path& directory, model::SaveOptions options) {
  Description described =
      describe(model.whole, connectivity, connectivity.is_regular() ? Form::regular : Form::hf);
  options.files = std::move(described.files);
  model::save_model(model, std::move(described.config), directory, options);
}

}  // namespace farskip::forms
