// Configurations of released models, and what farskip writes back.
#include "model/config.h"

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

TEST(Config, ReadsTheKeysOfTransformers5) {
  auto json = released("Qwen3-30B-A3B");
  const auto old = parse_config(json, "config.json");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", json["rope_theta"]}};
  json["num_local_experts"] = json["num_experts"];
  json["dtype"] = json["torch_dtype"];
  for (const char* key : {"rope_theta", "rope_scaling", "num_experts", "torch_dtype"})
    json.erase(key);
  const auto config = parse_config(json, "config.json");
  EXPECT_EQ(config.layers[0].attention.rope.theta, old.layers[0].attention.rope.theta);
  EXPECT_EQ(config.layers[0].moe->router.experts, old.layers[0].moe->router.experts);
  EXPECT_EQ(config.dtype, old.dtype);
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
