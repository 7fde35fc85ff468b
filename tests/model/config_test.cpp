// Configurations of released models, and what farskip writes back.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "model/kv_cache.h"
#include "model/parameter_count.h"
#include "util/error.h"

namespace farskip::model {
namespace {

nlohmann::ordered_json released(const std::string& name) {
  auto json = io::read_json_file(std::string(FARSKIP_TEST_DATA) + "/configs/" + name + ".json");
  json.erase("quantization_config");
  return json;
}

struct Released {
  const char* name;
  int64_t total, active;  ///< parameters, as published or computed from the published config
  double softmax_scale;   ///< YaRN's mscale^2 included
};

class ReleasedModel : public testing::TestWithParam<Released> {};

TEST_P(ReleasedModel, HasThePublishedSize) {
  const auto config = parse_config(released(GetParam().name), GetParam().name);
  const auto count = count_parameters(config);
  EXPECT_EQ(count.total(), GetParam().total);
  EXPECT_EQ(count.active(), GetParam().active);
  EXPECT_NEAR(config.layers[0].attention.softmax_scale, GetParam().softmax_scale, 1e-7);
  EXPECT_THAT(config.notes, testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Configs, ReleasedModel,
    testing::Values(Released{"DeepSeek-V2-Lite", 15706484224, 2661150208, 0.11472138},
                    Released{"DeepSeek-V2", 235741434880, 21375800320, 0.11472138},
                    Released{"DeepSeek-V3", 671026419200, 37552282624, 0.13523377},
                    Released{"Moonlight-16B-A3B-Instruct", 15960110208, 2914774528, 0.07216878},
                    Released{"Instella-MoE-16B-A3B-Think", 15862789248, 2817453568, 0.16562688},
                    Released{"Qwen3-30B-A3B", 30532122624, 3353032704, 0.08838835},
                    Released{"Qwen3-235B-A22B", 235093634560, 22190763520, 0.08838835}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::erase(name, '-');
      return name;
    });

TEST(Config, RefusesQuantisedCheckpointsByName) {
  const auto json =
      io::read_json_file(std::string(FARSKIP_TEST_DATA) + "/configs/DeepSeek-V3.json");
  if (!json.contains("quantization_config")) GTEST_SKIP();
  EXPECT_THROW(parse_config(json, "config.json"), InputError);
}

TEST(Config, LatentCacheIsSmall) {
  const auto config = parse_config(released("DeepSeek-V3"), "config.json");
  EXPECT_EQ(KvCache::bytes_per_token(config, 2), 61 * (512 + 64) * 2);
}

struct Spelling {
  const char* model;
  const char* edits;  ///< JSON; null takes a field away, "null" stands for null
};

nlohmann::ordered_json edited(const nlohmann::ordered_json& json, const std::string& edits) {
  auto result = json;
  const auto parsed = io::parse_python_json(edits, "edits");
  for (const auto& [key, value] : parsed.items()) {
    if (value.is_null())
      result.erase(key);
    else
      result[key] = value == "null" ? nlohmann::ordered_json() : value;
  }
  return result;
}

/// What two configurations compute, as far as the fields below can tell them apart.
std::string computes(const ModelConfig& config) {
  std::string text = util::concat(config.architecture, ' ', config.hidden, ' ', config.norm_eps,
                                  ' ', config.max_positions, ' ', config.dtype, ' ',
                                  config.tied_embeddings, ' ', config.connectivity.describe());
  for (const LayerConfig& layer : config.layers) {
    const AttentionConfig& a = layer.attention;
    text += util::concat('\n', a.q_rank, ' ', a.qk_dim(), ' ', a.v_dim, ' ', a.heads, ' ',
                         a.kv_heads, ' ', a.qkv_bias, a.gated, ' ', a.softmax_scale, ' ',
                         a.rope.theta, ' ', a.rope.interleaved);
    if (const auto& yarn = a.rope.yarn)
      text +=
          util::concat(" yarn ", yarn->factor, ' ', yarn->original_positions, ' ', yarn->beta_fast,
                       ' ', yarn->beta_slow, ' ', yarn->attention_factor, ' ', yarn->truncate);
    if (const auto& moe = layer.moe)
      text +=
          util::concat(" moe ", moe->router.experts, ' ', moe->router.top_k, ' ',
                       moe->router.groups, ' ', moe->router.groups_kept, ' ', moe->router.normalise,
                       ' ', moe->router.scale, ' ', moe->expert_width, ' ', moe->shared_width);
  }
  return text;
}

// V3's file has YaRN of factor 40 from 4096 positions, theta 10000 and what its class has as
// default; Qwen's theta 1e6 and head_dim 128.
constexpr const char *kV2 = "DeepSeek-V2", *kV3 = "DeepSeek-V3", *kQwen = "Qwen3-30B-A3B";
constexpr const char* kInstella = "Instella-MoE-16B-A3B-Think";
#define YARN                                                                   \
  R"("factor": 40, "original_max_position_embeddings": 4096, "mscale": 1.0, )" \
  R"("mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1)"

class SpeltOtherwise : public testing::TestWithParam<Spelling> {};

TEST_P(SpeltOtherwise, MeansTheSameAndNeedsNoNote) {
  const auto json = released(GetParam().model);
  const auto expected = parse_config(json, "config.json");
  const auto found = parse_config(edited(json, GetParam().edits), "config.json");
  EXPECT_EQ(computes(found), computes(expected)) << GetParam().edits;
  EXPECT_THAT(found.notes, testing::IsEmpty()) << GetParam().edits;
}

INSTANTIATE_TEST_SUITE_P(
    Configs, SpeltOtherwise,
    testing::Values(
        // Names of transformers 5.
        Spelling{kQwen, R"({"rope_theta": null, "rope_scaling": null, "num_experts": null,
            "torch_dtype": null, "dtype": "bfloat16", "num_local_experts": 128,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}})"},
        Spelling{kV3, R"({"rope_scaling": null, "rope_theta": 5e6,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000, )" YARN "}}"},
        Spelling{kV3, R"({"rope_scaling": {}, "rope_theta": 5e6,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, )" YARN "}}"},
        Spelling{kV3, R"({"rope_scaling": "null",
            "rope_parameters": {"type": "yarn", )" YARN "}}"},
        Spelling{kV3, R"({"rope_scaling": {"type": "yarn", "rope_type": "yarn", )" YARN "}}"},
        Spelling{kV3, R"({"original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "yarn", )" YARN "}}"},
        Spelling{kV3, R"({"rope_theta": "10000"})"}, Spelling{kV3, R"({"rope_theta": null})"},
        // Absent or null, where the class has a default or takes null for it.
        Spelling{kV3, R"({"architectures": null})"}, Spelling{kV3, R"({"architectures": "null"})"},
        Spelling{kV3, R"({"model_type": null})"}, Spelling{kV3, R"({"model_type": "kimi_k2"})"},
        Spelling{kV3, R"({"q_lora_rank": null, "n_group": null, "topk_group": null,
            "norm_topk_prob": null, "num_key_value_heads": null, "kv_lora_rank": null,
            "n_shared_experts": null, "first_k_dense_replace": null, "moe_layer_freq": null,
            "routed_scaling_factor": null, "scoring_func": null, "topk_method": null,
            "hidden_act": null, "rms_norm_eps": null, "attention_bias": null,
            "num_experts_per_tok": null, "v_head_dim": null, "qk_rope_head_dim": null,
            "qk_nope_head_dim": null, "initializer_range": null, "tie_word_embeddings": null})"},
        Spelling{kV3, R"({"num_key_value_heads": "null", "attention_bias": "null",
            "tie_word_embeddings": "null", "moe_layer_freq": "null", "initializer_range": "null",
            "attention_dropout": "null", "scoring_func": "null", "topk_method": "null"})"},
        Spelling{kQwen, R"({"num_key_value_heads": 4, "mlp_only_layers": "null",
            "use_sliding_window": "null", "decoder_sparse_step": null,
            "num_experts_per_tok": null})"},
        // Other types and lists.
        Spelling{kV3, R"({"hidden_size": 7168.0, "num_hidden_layers": 61.0, "n_group": 8.0,
            "rope_theta": 10000, "attention_dropout": 0, "hidden_act": "swish"})"},
        Spelling{kQwen, R"({"sliding_window": 4096, "unsloth_fixed": true, "num_labels": 2,
            "temperature": 1.0, "id2label": {"0": "LABEL_0"}, "auto_map": {"AutoConfig": "x"}})"},
        Spelling{kV3, R"({"something_new": [], "another": {}, "third": "null"})"},
        Spelling{kInstella, R"({"farskip_start_idx": 0.0, "farskip_end_idx": 10000.0,
            "attn_only_farskip": "null", "mlp_only_farskip": null})"},
        Spelling{kInstella, R"({"farskip_start_idx": "null", "farskip_end_idx": Infinity})"},
        Spelling{kInstella, R"({"farskip_start_idx": null, "farskip_end_idx": 1e300})"},
        Spelling{kInstella, R"({"farskip_end_idx": "null", "farskip_lag": 1.0})"}));

TEST(Config, NullIsNotAlwaysAbsent) {
  const auto v3 = released(kV3), v2 = released(kV2);
  const auto router = [](const auto& json, const char* edits) {
    return parse_config(edited(json, edits), "config.json").layers.back().moe->router;
  };
  EXPECT_FALSE(router(v3, R"({"norm_topk_prob": "null"})").normalise);
  EXPECT_FALSE(router(v2, R"({"norm_topk_prob": "null"})").normalise);
  const auto attention = [](const auto& json, const char* edits) {
    return parse_config(edited(json, edits), "config.json").layers.back().attention;
  };
  EXPECT_EQ(attention(v3, R"({"q_lora_rank": "null"})").q_rank, 0);
  EXPECT_FALSE(attention(v3, R"({"rope_interleave": "null"})").rope.interleaved);
  EXPECT_TRUE(attention(v2, "{}").rope.interleaved);
  EXPECT_EQ(attention(released(kQwen), R"({"head_dim": "null"})").rope_dim, 64);
  EXPECT_EQ(parse_config(edited(v3, R"({"max_position_embeddings": "null"})"), "x").max_positions,
            4096);
}

TEST(Config, HonoursWhatChangesTheFunction) {
  const auto v3 = released(kV3);
  const auto rope = [&](const char* edits) {
    return parse_config(edited(v3, edits), "config.json").layers[0].attention.rope;
  };
  EXPECT_FALSE(rope(R"({"rope_scaling": {"type": "yarn", "rope_type": "default"}})").yarn);
  EXPECT_TRUE(
      rope(R"({"rope_scaling": {"type": "default", "rope_type": "yarn", "factor": 2}})").yarn);
  EXPECT_EQ(rope(R"({"rope_scaling": {"type": "default", "rope_theta": 7}})").theta, 7);
  EXPECT_EQ(rope(R"({"original_max_position_embeddings": 2048})").yarn->original_positions, 2048);
  const auto beta = rope(R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 0}})");
  EXPECT_EQ(beta.yarn->beta_fast, 32);
  std::string freq = "{\"moe_layer_freq\": [0,0,0,1", types = "{\"mlp_layer_types\": [";
  for (int k = 4; k < 61; ++k) freq += k % 2 ? ",0" : ",1";
  const auto config = parse_config(edited(v3, freq + "]}"), "config.json");
  for (int64_t k = 0; k < 61; ++k) {
    EXPECT_EQ(config.is_moe(k), k == 3 || (k > 3 && k % 2 == 0)) << k;
    types += util::concat(k ? "," : "", config.is_moe(k) ? "\"sparse\"" : "\"dense\"");
  }
  EXPECT_NO_THROW(parse_config(edited(config.source, types + "]}"), "config.json"));
  EXPECT_THROW(parse_config(edited(v3, types + "]}"), "config.json"), InputError);
}

TEST(Config, NamesInANoteWhatItDoesNotTake) {
  const auto v3 = released(kV3);
  const auto notes = [&](const char* edits) {
    return parse_config(edited(v3, edits), "config.json").notes;
  };
  using testing::ElementsAre, testing::HasSubstr;
  EXPECT_THAT(notes(R"({"new_field": 3, "newer": "x", "empty": []})"),
              ElementsAre("config.json: not taken into account: new_field: 3, newer: \"x\""));
  EXPECT_THAT(notes(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 7}})"),
              ElementsAre("config.json: rope_parameters is not taken into account beside "
                          "rope_scaling"));
  EXPECT_THAT(notes(R"({"time_limit": NaN})"), ElementsAre(HasSubstr("time_limit: NaN")));
  EXPECT_THAT(notes(R"({"temperature": 0.6})"), ElementsAre(HasSubstr("temperature: 0.6")));
  EXPECT_THAT(notes(R"({"model_type": "new_one"})"), ElementsAre(HasSubstr("read as Deepseek")));
  EXPECT_THAT(notes(R"({"rope_scaling": {"type": "yarn", "rope_type": "default"}})"),
              ElementsAre(HasSubstr("type: \"yarn\" is not taken into account")));
  EXPECT_THAT(notes(R"({"rope_scaling": {"type": "default", "short_factor": [1]}})"),
              ElementsAre(HasSubstr("rope_scaling: not taken into account: short_factor")));
}

TEST(Config, ReadsTheTextOfAModelOfMore) {
  const auto json = released(kV3);
  nlohmann::ordered_json whole = {{"architectures", {"KimiVLForConditionalGeneration"}},
                                  {"model_type", "kimi_vl"},
                                  {"vision_config", {{"hidden_size", 1152}}},
                                  {"farskip", true},
                                  {"text_config", json}};
  const auto config = parse_config(whole, "config.json");
  EXPECT_EQ(config.architecture, "DeepseekV3ForCausalLM");
  EXPECT_EQ(config.source["architectures"], json["architectures"]);
  EXPECT_EQ(config.connectivity.describe(), "farskip, layers 0:61 of 61");
  EXPECT_THAT(config.notes, testing::ElementsAre(testing::HasSubstr("text_config")));
  whole["text_config"]["architectures"] = nullptr;
  EXPECT_EQ(parse_config(whole, "config.json").architecture, "DeepseekV3ForCausalLM");
}

TEST(Config, StampsConnectivityAndReadsItBack) {
  const auto config = parse_config(released("DeepSeek-V2-Lite"), "config.json");
  const int64_t depth = config.depth();
  for (const auto kind :
       {ConnectivityKind::farskip, ConnectivityKind::attention_only, ConnectivityKind::moe_only})
    for (const char* range : {"0:27", "last:50%", "first:3", "-5:-1", "4:4"}) {
      const Connectivity connectivity(kind, parse_layer_range(range, depth), depth);
      const auto back = parse_config(config_with_connectivity(config, connectivity), "config.json");
      for (int64_t k = 0; k < depth; ++k)
        EXPECT_EQ(back.connectivity.layer(k), connectivity.layer(k)) << range << " " << k;
    }
  EXPECT_EQ(config_with_connectivity(config, Connectivity::regular(depth))["farskip"], false);
  // Instella's file says layers 0 to 10000.
  const auto native = parse_config(released("Instella-MoE-16B-A3B-Think"), "config.json");
  EXPECT_EQ(native.connectivity.describe(), "farskip, layers 0:27 of 27");
}

TEST(LayerRange, CountsFromEitherEnd) {
  const struct {
    const char* text;
    int64_t begin, end;
  } cases[] = {{"0:8", 0, 8},    {":", 0, 8},         {"2:-1", 2, 7},     {"-3:", 5, 8},
               {"last:3", 5, 8}, {"first:2", 0, 2},   {"last:75%", 2, 8}, {"first:50%", 0, 4},
               {"last:0", 8, 8}, {"last:100%", 0, 8}, {"last:10%", 7, 8}};
  for (const auto& c : cases)
    EXPECT_EQ(parse_layer_range(c.text, 8), (LayerRange{c.begin, c.end})) << c.text;
  for (const char* text : {"", "3", "9:", "0:9", "5:2", "last:9", "last:-1", "first:101%", "a:b",
                           "last:", "middle:3", "1:2:3", "-9:"})
    EXPECT_THROW(parse_layer_range(text, 8), InputError) << text;
}

}  // namespace
}  // namespace farskip::model
