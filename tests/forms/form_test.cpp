// What is written into config.json, form by form, and what can't be.
#include "forms/form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "io/support.h"
#include "support/golden.h"

namespace farskip::forms {
namespace {

using io::Json;
using model::Connectivity;
using model::ConnectivityKind;
using model::ModelConfig;
using testing::HasSubstr;

/// config.json of released models and of the golden ones, by name.
std::map<std::string, Json> configs() {
  std::map<std::string, Json> found;
  for (const char* name :
       {"DeepSeek-V2-Lite", "DeepSeek-V2", "DeepSeek-V3", "Moonlight-16B-A3B-Instruct",
        "Instella-MoE-16B-A3B-Think", "Qwen3-30B-A3B", "Qwen3-235B-A22B"}) {
    found[name] = io::read_json_file(std::string(FARSKIP_TEST_DATA) + "/configs/" + name + ".json");
    found[name].erase("quantization_config");
  }
  for (const std::string& name : test::golden_models())
    found[name] = io::read_json_file(test::golden_directory(name) / "config.json");
  return found;
}

std::vector<Connectivity> connectivities(int64_t depth) {
  return {{ConnectivityKind::farskip, {0, depth}, depth},
          {ConnectivityKind::farskip, {depth / 2, depth}, depth},
          {ConnectivityKind::attention_only, {0, depth}, depth},
          {ConnectivityKind::moe_only, {1, depth - 1}, depth}};
}

ModelConfig parse(const Json& json) {
  return model::parse_config(json, "config.json");
}

/// What a model of this configuration computes, but for its connectivity.
Json meaning(const ModelConfig& config) {
  Json layers = Json::array();
  for (const model::LayerConfig& layer : config.layers) {
    const model::AttentionConfig& a = layer.attention;
    Json one = {a.heads,    a.kv_heads,      a.nope_dim,   a.rope_dim,         a.v_dim,
                a.q_rank,   a.kv_rank,       a.qkv_bias,   a.qk_norm,          a.gated,
                a.norm_eps, a.softmax_scale, a.rope.theta, a.rope.interleaved, layer.dense_width};
    if (a.rope.yarn) one.push_back({a.rope.yarn->factor, a.rope.yarn->attention_factor});
    if (layer.moe) {
      const model::RouterConfig& r = layer.moe->router;
      one.push_back({r.experts, r.top_k, static_cast<int>(r.score), static_cast<int>(r.selection),
                     r.groups, r.groups_kept, r.normalise, r.scale, layer.moe->expert_width,
                     layer.moe->shared_width});
    }
    layers.push_back(one);
  }
  return {{"layers", layers},
          {"eps", config.norm_eps},
          {"hidden", config.hidden},
          {"vocabulary", config.vocabulary},
          {"dtype", config.dtype},
          {"eos", config.eos_tokens},
          {"tied", config.tied_embeddings}};
}

TEST(Form, OfHfIsReadBackWithItsConnectivityAndNamesOurClasses) {
  for (const auto& [name, json] : configs()) {
    const ModelConfig config = parse(json);
    for (const Connectivity& connectivity : connectivities(config.depth())) {
      const Description written = describe(config, connectivity, Form::hf);
      const ModelConfig back = parse(written.config);
      EXPECT_EQ(meaning(back), meaning(config)) << name;
      EXPECT_EQ(back.connectivity.describe(), connectivity.describe()) << name;
      const std::string own = "Farskip" + config.architecture;
      EXPECT_EQ(written.config["architectures"], Json::array({own})) << name;
      EXPECT_THAT(written.config["model_type"].get<std::string>(), testing::StartsWith("farskip_"));
      EXPECT_EQ(written.config["auto_map"]["AutoModelForCausalLM"], "modeling_farskip." + own);
      // The classes are in the file.
      for (const auto& [key, place] : written.config["auto_map"].items()) {
        const std::string text = place.get<std::string>(), named = text.substr(text.find('.') + 1);
        EXPECT_THAT(*written.files.at(kModelingFile), HasSubstr("class " + named + "(")) << key;
      }
      EXPECT_THAT(*written.files.at(kModelingFile),
                  HasSubstr("model_type = " + written.config["model_type"].dump()));
    }
  }
}

TEST(Form, OfRegularIsTheFamilysOwnFromWhateverItWasReadFrom) {
  for (const auto& [name, json] : configs()) {
    const ModelConfig config = parse(json);
    const Connectivity connectivity = connectivities(config.depth()).front();
    const Json far = describe(config, connectivity, Form::hf).config;
    Json stamped = json;
    connectivity.to_json(stamped);
    for (const Json& source : {json, far, stamped}) {
      const Description written =
          describe(parse(source), Connectivity::regular(config.depth()), Form::regular);
      const ModelConfig back = parse(written.config);
      EXPECT_TRUE(back.connectivity.is_regular()) << name;
      EXPECT_EQ(meaning(back), meaning(config)) << name;
      for (const char* key : {"architectures", "model_type"})
        EXPECT_EQ(written.config[key], json[key]) << name;
      for (const auto& [key, value] : written.config.items())
        if (key.find("farskip") != std::string::npos) {
          EXPECT_EQ(key + value.dump(), "farskipfalse") << name;  // of Instella-MoE
        }
      EXPECT_FALSE(written.files.at(kModelingFile)) << name;
    }
    // A map to the family's own file stays; one to ours does not.
    EXPECT_EQ(describe(config, Connectivity::regular(config.depth()), Form::regular)
                  .config.contains("auto_map"),
              json.contains("auto_map"))
        << name;
    EXPECT_FALSE(describe(parse(far), Connectivity::regular(config.depth()), Form::regular)
                     .config.contains("auto_map"))
        << name;
  }
}

TEST(Form, OfAmdIsInstellaMoEWithAllOfItsKeys) {
  for (const char* name : {"DeepSeek-V3", "Moonlight-16B-A3B-Instruct",
                           "Instella-MoE-16B-A3B-Think", "moonlight", "instella_moe"}) {
    const ModelConfig config = parse(configs().at(name));
    const bool gated = config.layers.front().attention.gated;
    for (const Connectivity& connectivity : connectivities(config.depth())) {
      for (const bool auto_map : {true, false}) {
        const Description written = describe(config, connectivity, Form::amd, {auto_map});
        const ModelConfig back = parse(written.config);
        EXPECT_EQ(meaning(back), meaning(config)) << name;
        EXPECT_EQ(back.connectivity.describe(), connectivity.describe());
        EXPECT_EQ(written.config["architectures"], Json::array({"InstellaMoEForCausalLM"}));
        EXPECT_EQ(written.config["model_type"], "deepseek_v3");
        EXPECT_EQ(written.config["gated_attention"], gated);
        EXPECT_EQ(written.config.contains("auto_map"), auto_map);
        EXPECT_EQ(written.files.at(kModelingFile).has_value(), auto_map);
        for (const char* key : {"farskip_start_idx", "farskip_end_idx", "attn_only_farskip",
                                "mlp_only_farskip", "n_group", "topk_method", "moe_layer_freq"})
          EXPECT_TRUE(written.config.contains(key)) << key;
        // It is read as what it is: DeepSeek-V3, unless there are gates.
        EXPECT_EQ(describe(back, connectivity, Form::hf).config["architectures"][0],
                  gated ? "FarskipInstellaMoEForCausalLM" : "FarskipDeepseekV3ForCausalLM");
        // AMD's SGLang build converts every layer, whatever is said.
        EXPECT_EQ(
            written.notes.size(),
            connectivity.describe() == connectivities(config.depth())[0].describe() ? 1u : 2u);
      }
    }
  }
}

TEST(Form, SaysOldKeysToAmdsCodeAndLeavesNothingToDefaults) {
  Json json = configs().at("moonlight");
  for (const char* key : {"n_group", "topk_group", "norm_topk_prob", "scoring_func", "topk_method",
                          "routed_scaling_factor", "rope_scaling", "moe_layer_freq"})
    json.erase(key);
  json["hidden_size"] = json["hidden_size"].get<double>();
  json["max_position_embeddings"] = nullptr;
  json["rope_theta"] = nullptr;
  json["n_routed_experts"] = 16;  // of which DeepSeek-V3's defaults take 4 of 8 groups
  json["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 5000.0}, {"factor", 4.0}};
  const ModelConfig config = parse(json);
  const Connectivity connectivity = connectivities(config.depth()).front();
  for (const Form form : {Form::hf, Form::amd}) {
    const Json written = describe(config, connectivity, form).config;
    EXPECT_EQ(meaning(parse(written)), meaning(config));
    EXPECT_EQ(written["n_group"], 8);
    EXPECT_EQ(written["topk_group"], 4);
    EXPECT_EQ(written["norm_topk_prob"], true);
    EXPECT_EQ(written["routed_scaling_factor"], 2.5);
    EXPECT_EQ(written["topk_method"], "noaux_tc");
    EXPECT_TRUE(written["hidden_size"].is_number_integer());
    EXPECT_EQ(written["max_position_embeddings"], config.max_positions);
  }
  const Json old = describe(config, connectivity, Form::amd).config;
  EXPECT_EQ(old["rope_theta"], 5000.0);
  EXPECT_EQ(old["rope_scaling"]["type"], "yarn");
  EXPECT_FALSE(old.contains("rope_parameters"));
}

TEST(Form, KeepsTheClassesOfATokenizer) {
  Json json = configs().at("moonlight");
  json["auto_map"] = {{"AutoConfig", "configuration_deepseek.DeepseekV3Config"},
                      {"AutoTokenizer", Json::array({"tokenization_moonshot.Tokenizer", nullptr})}};
  const ModelConfig config = parse(json);
  const Json far = describe(config, connectivities(config.depth()).front(), Form::hf).config;
  EXPECT_EQ(far["auto_map"]["AutoTokenizer"], json["auto_map"]["AutoTokenizer"]);
  EXPECT_EQ(far["auto_map"]["AutoConfig"], "modeling_farskip.FarskipDeepseekV3Config");
  const Json back =
      describe(parse(far), Connectivity::regular(config.depth()), Form::regular).config;
  EXPECT_EQ(back["auto_map"], (Json{{"AutoTokenizer", json["auto_map"]["AutoTokenizer"]}}));
}

TEST(Form, RefusesWhatItCanNotSay) {
  const struct {
    const char* name;
    Json change;
    const char* message;
  } cases[] = {
      {"deepseek_v2", {}, "--form amd: found DeepseekV2ForCausalLM, expected DeepSeek-V3"},
      {"qwen3_moe", {}, "--form amd: found Qwen3MoeForCausalLM, expected DeepSeek-V3"},
      {"moonlight", {{"attention_bias", true}}, "--form amd: found attention_bias, expected"},
      {"moonlight", {{"n_shared_experts", nullptr}}, "--form amd: found no shared experts"},
      {"moonlight", {{"moe_layer_freq", 2}}, "--form amd: found a dense layer after a MoE layer"},
  };
  for (const auto& c : cases) {
    Json json = configs().at(c.name);
    for (const auto& [key, value] : c.change.items()) json[key] = value;
    const ModelConfig config = parse(json);
    const Connectivity far = connectivities(config.depth()).front();
    EXPECT_THAT(io::input_error([&] { describe(config, far, Form::amd); }), HasSubstr(c.message));
    EXPECT_EQ(io::input_error([&] { describe(config, far, Form::hf); }), "");
  }
  const ModelConfig config = parse(configs().at("moonlight"));
  for (const Form form : {Form::hf, Form::amd})
    EXPECT_THAT(
        io::input_error([&] { describe(config, Connectivity::regular(config.depth()), form); }),
        HasSubstr("found a regular model, expected --connectivity"));
}

}  // namespace
}  // namespace farskip::forms
