// Damaged input, all of it in one place: every case ends in one line that names the file or field
// and says what was expected; none in a crash or a wrong model.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "io/checkpoint.h"
#include "io/json_file.h"
#include "io/support.h"
#include "model/config.h"

namespace farskip::io {
namespace {

/// One line, with the name and the expected piece in it.
void expect_line(const std::string& error, const std::string& name, const std::string& piece) {
  EXPECT_NE(error, "") << "no error";
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  EXPECT_NE(error.find(name), std::string::npos) << error;
  EXPECT_NE(error.find(piece), std::string::npos) << error;
  EXPECT_LT(error.size(), 600u) << error;
}

struct Bytes {
  std::string bytes;
  const char* piece;  ///< of the error
};

const std::string kEntry = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
const std::string kData(8, '\0');

std::string one(const std::string& entry) {
  return safetensors_bytes("{\"a\":{" + entry + "}}", kData);
}
std::string with_length(uint64_t length) {
  std::string bytes = one(kEntry);
  for (int k = 0; k < 8; ++k) bytes[k] = static_cast<char>(length >> 8 * k);
  return bytes;
}

TEST(Damaged, SafetensorsFiles) {
  const std::string good = one(kEntry);
  const Bytes cases[] = {
      {"", "0 bytes"},
      {"1234567", "incomplete download"},
      {good.substr(0, 20), "incomplete download"},
      {good.substr(0, good.size() - 1), "incomplete download"},
      {good + "x", "1 bytes after the last tensor"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
      {with_length(0), "JSON object"},
      {with_length(2), "invalid JSON"},
      {with_length(good.size()), "incomplete download"},
      {with_length(std::numeric_limits<uint64_t>::max()), "header length"},
      {with_length(kMaxHeaderBytes + 1), "header length"},
      {safetensors_bytes("[]"), "JSON object"},
      {safetensors_bytes("{\"a\":"), "invalid JSON"},
      {safetensors_bytes("{\"\xff\":1}"), "invalid JSON"},
      {safetensors_bytes("{\"a\":3}"), "a: found 3, expected an object"},
      {safetensors_bytes("{\"a\":{" + kEntry + "},\"a\":{" + kEntry + "}}", kData), "twice"},
      {one(R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])"), "twice"},
      {one(R"("shape":[2],"data_offsets":[0,8])"), "dtype: found no such field"},
      {one(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), "found \"F31\""},
      {one(R"("dtype":4,"shape":[2],"data_offsets":[0,8])"), "dtype: found 4"},
      {one(R"("dtype":"F32","data_offsets":[0,8])"), "shape: found no such field"},
      {one(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), "shape: found 2"},
      {one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "shape: found [-2]"},
      {one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "expected 12 bytes"},
      {one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), "63 bits"},
      {one(R"("dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,8])"), "63 bits"},
      {one(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), "shape"},
      {one(R"("dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[0,0])"), "63 bits"},
      {one(R"("dtype":"F32","shape":[2])"), "data_offsets: found no such field"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), "data_offsets: found [0]"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "data_offsets: found [8,0]"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"), "data_offsets"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[8,16])"), "a gap at 8, expected 0"},
      {one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"), "incomplete download"},
      {safetensors_bytes("{\"a\":{" + kEntry + "},\"b\":{" + kEntry + "}}", kData), "an overlap"},
      {safetensors_bytes("{\"__metadata__\":[],\"a\":{" + kEntry + "}}", kData), "__metadata__"},
      {safetensors_bytes("{\"__metadata__\":{\"n\":1},\"a\":{" + kEntry + "}}", kData),
       "__metadata__: n: found 1, expected a string"},
  };
  const TemporaryFolder folder;
  put_file(folder / "file", good);
  ASSERT_EQ(read_safetensors(folder / "file").at("a").numel(), 2);
  for (const auto& [bytes, piece] : cases) {
    SCOPED_TRACE(piece);
    put_file(folder / "file", bytes);
    expect_line(input_error([&] { read_safetensors(folder / "file"); }), (folder / "file").string(),
                piece);
  }
}

TEST(Damaged, Json) {
  const std::string deep(200'000, '[');
  const Bytes cases[] = {
      {"", "empty file"},
      {" ", "invalid JSON"},
      {"{\"a\": 1,}", "column 9"},
      {"{\"a\": 1} x", "invalid JSON"},
      {"{\"a\": NaN}", "invalid JSON"},
      {"{\"a\": 1e999}", "number overflow"},
      {"{\"a\": \"\xc3\x28\"}", "UTF-8"},
      {"{\"a\": \"line\nbreak\"}", "invalid JSON"},
      {"{\"a\": {\"b\": 1, \"b\": 2}}", "\"b\" twice"},
      {"// comment\n{}", "invalid JSON"},
      {deep, "nested deeper than 100"},
      {std::string(101, '[') + std::string(101, ']'), "nested deeper than 100"},
      {std::string("{\"a\0\": 1}", 9), "invalid JSON"},
  };
  EXPECT_NO_THROW(parse_json(std::string(100, '[') + std::string(100, ']'), "deep"));
  for (const auto& [text, piece] : cases) {
    SCOPED_TRACE(piece);
    expect_line(input_error([&] { parse_json(text, "some.json"); }), "some.json", piece);
    expect_line(input_error([&] { parse_large_json(text, "some.json"); }), "some.json", piece);
  }
}

TEST(Damaged, IndexOfShards) {
  const Bytes cases[] = {
      {"", "empty file"},
      {"{", "invalid JSON"},
      {"[]", "weight_map: found none"},
      {"{}", "weight_map: found none"},
      {R"({"weight_map": []})", "weight_map: found none"},
      {R"({"weight_map": {"a": 3}})", "a: found 3"},
      {R"({"weight_map": {"a": ""}})", "name of a file in the same directory"},
      {R"({"weight_map": {"a": "../here/shard"}})", "name of a file in the same directory"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "name of a file in the same directory"},
      {R"({"weight_map": {"a": ".."}})", "name of a file in the same directory"},
      {R"({"weight_map": {"a": "shard\u0000"}})", "name of a file in the same directory"},
      {R"({"weight_map": {"a": "absent"}})", "no shard \"absent\""},
      {R"({"weight_map": {"a": "config.json"}})", "config.json: found"},
      {R"({"weight_map": {"a": "shard", "a": "shard"}})", "twice"},
  };
  const TemporaryFolder folder;
  put_file(folder / "config.json", "{}");
  put_file(folder / "shard", one(kEntry));
  put_file(folder / "model.safetensors.index.json", R"({"weight_map": {"a": "shard"}})");
  ASSERT_EQ(Checkpoint::open(folder.path()).names(), std::vector<std::string>{"a"});
  for (const auto& [index, piece] : cases) {
    SCOPED_TRACE(piece);
    put_file(folder / "model.safetensors.index.json", index);
    expect_line(input_error([&] { Checkpoint::open(folder.path()); }), folder.path().string(),
                piece);
  }
}

TEST(Damaged, CheckpointDirectories) {
  const TemporaryFolder folder;
  const auto error = [&] { return input_error([&] { Checkpoint::open(folder / "model"); }); };
  const std::string name = (folder / "model").string();
  expect_line(error(), name, "found nothing");
  put_file(folder / "model", "");
  expect_line(error(), name, "no directory");
  std::filesystem::remove(folder / "model");
  std::filesystem::create_directory(folder / "model");
  expect_line(error(), name, "no config.json");
  put_file(folder / "model/config.json", "{}");
  expect_line(error(), name, "no weights");
  put_file(folder / "model/pytorch_model.bin", "");
  expect_line(error(), name, "convert the checkpoint to safetensors");
}

struct Edit {
  const char* model;  ///< of tests/data/models
  const char* key;    ///< "" stands for the whole file
  const char* value;  ///< JSON; "" takes the field away
  const char* piece;  ///< of the error
};

TEST(Damaged, Configurations) {
  const char *v2 = "deepseek_v2", *v3 = "deepseek_v3", *qwen = "qwen3_moe";
  const Edit edits[] = {
      {v3, "", "[]", "expected an object"},
      {v3, "model_type", "\"qwen3_moe\"", "model_type: found \"qwen3_moe\""},
      {v3, "architectures", "\"DeepseekV3ForCausalLM\"", "a list of strings"},
      {v3, "architectures", "[\"LlamaForCausalLM\"]", "expected one of DeepseekV2ForCausalLM"},
      {v3, "architectures", "[\"DeepseekV3ForCausalLM\", \"Qwen3MoeForCausalLM\"]", "one of"},
      {v3, "hidden_size", "", "hidden_size: found no such field"},
      {v3, "hidden_size", "null", "hidden_size: found null"},
      {v3, "hidden_size", "\"36\"", "hidden_size: found \"36\""},
      {v3, "hidden_size", "36.5", "hidden_size: found 36.5"},
      {v3, "hidden_size", "-36", "hidden_size: found -36"},
      {v3, "hidden_size", "1000000000000", "from 1 to 1048576"},
      {v3, "hidden_size", "1e300", "hidden_size"},
      {v3, "vocab_size", "0", "vocab_size: found 0"},
      {v3, "num_hidden_layers", "0", "num_hidden_layers"},
      {v3, "num_hidden_layers", "1000000000", "num_hidden_layers"},
      {v3, "rms_norm_eps", "-1", "rms_norm_eps"},
      {v3, "rms_norm_eps", "true", "rms_norm_eps: found true"},
      {v3, "eos_token_id", "[1, 99]", "eos_token_id"},
      {v3, "bos_token_id", "99", "bos_token_id"},
      {v3, "tie_word_embeddings", "1", "true or false"},
      {v3, "hidden_act", "\"gelu\"", "expected \"silu\""},
      {v3, "attention_dropout", "0.1", "attention_dropout"},
      {v3, "quantization_config", "{\"quant_method\": \"fp8\"}", "dequantise"},
      {v3, "num_experts_per_tok", "9", "at most the 8 experts"},
      {v3, "n_group", "3", "a divisor of the 8 experts"},
      {v3, "topk_group", "5", "at most n_group"},
      {v3, "topk_group", "1", "at least num_experts_per_tok"},
      {v3, "scoring_func", "\"softmax\"", "expected \"sigmoid\""},
      {v3, "topk_method", "\"greedy\"", "expected \"noaux_tc\""},
      {v2, "topk_method", "\"noaux_tc\"", "group_limited_greedy"},
      {v3, "n_group", "null", "n_group: found null"},
      {v3, "topk_group", "null", "topk_group: found null"},
      {v3, "routed_scaling_factor", "null", "routed_scaling_factor: found null"},
      {v2, "topk_method", "null", "topk_method: found null"},
      {v2, "num_experts_per_tok", "", "num_experts_per_tok: found no such field"},
      {v3, "hidden_act", "null", "hidden_act: found null"},
      {v3, "head_dim", "15", "qk_rope_head_dim = 8"},
      {v3, "num_local_experts", "9", "expected n_routed_experts = 8"},
      {v3, "rope_theta", "null", "rope_theta: found null"},
      {v3, "rope_theta", "\"10k\"", "rope_theta: found \"10k\""},
      {qwen, "rope_parameters", "{\"full_attention\": {\"rope_theta\": 5}}", "full_attention: fo"},
      {v3, "per_layer_config", "{\"0\": {\"v_head_dim\": 2}}", "per_layer_config"},
      {v3, "moe_layer_freq", "[0, 1]", "an entry for each of the 5 layers"},
      {v3, "moe_layer_freq", "[0, 0, 1, 1, 2]", "moe_layer_freq"},
      {v3, "layer_types", "[\"full_attention\"]", "an entry for each of the 5 layers"},
      {v3, "mlp_layer_types", R"(["dense", "dense", "dense", "sparse", "sparse"])",
       "for layer 2, expected \"sparse\""},
      {v3, "num_key_value_heads", "1", "no groups"},
      {v3, "qk_rope_head_dim", "7", "an even number"},
      {v3, "qk_head_dim", "15", "qk_nope_head_dim + qk_rope_head_dim"},
      {v3, "kv_lora_rank", "0", "kv_lora_rank: found 0"},
      {v3, "rope_scaling", "[]", "rope_scaling: found []"},
      {v3, "rope_scaling", "{\"type\": \"llama3\", \"factor\": 2}", "\"yarn\" or \"default\""},
      {v3, "rope_scaling", "{\"type\": \"yarn\"}", "rope_scaling: factor: found no such field"},
      {v3, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": 0.5}", "beta_slow"},
      {v3, "rope_theta", "0", "rope_theta"},
      {v3, "partial_rotary_factor", "0.5", "partial_rotary_factor"},
      {v3, "farskip", "\"yes\"", "farskip: found \"yes\""},
      {qwen, "num_key_value_heads", "3", "a divisor of num_attention_heads"},
      {qwen, "head_dim", "9", "an even number"},
      {qwen, "use_sliding_window", "true", "windows are not supported"},
      {qwen, "mlp_only_layers", "[-1]", "mlp_only_layers"},
      {qwen, "mlp_only_layers", "[\"0\"]", "mlp_only_layers"},
      {qwen, "num_experts", "", "num_experts: found no such field"},
      {qwen, "torch_dtype", "16", "torch_dtype: found 16"},
  };
  for (const Edit& edit : edits) {
    SCOPED_TRACE(util::concat(edit.model, ' ', edit.key, ' ', edit.value));
    Json config =
        read_json_file(util::concat(FARSKIP_TEST_DATA "/models/", edit.model, "/config.json"));
    if (!*edit.key)
      config = Json::parse(edit.value);
    else if (!*edit.value)
      config.erase(edit.key);
    else
      config[edit.key] = Json::parse(edit.value);
    expect_line(input_error([&] { model::parse_config(config, "config.json"); }),
                "config.json: ", edit.piece);
  }
}

TEST(Damaged, ConfigurationsWrongInTwoFields) {
  const auto error = [](Json config, std::initializer_list<std::pair<const char*, Json>> edits) {
    for (const auto& [key, value] : edits) config[key] = value;
    return input_error([&] { model::parse_config(config, "config.json"); });
  };
  const Json v3 = read_json_file(FARSKIP_TEST_DATA "/models/deepseek_v3/config.json");
  const Json qwen = read_json_file(FARSKIP_TEST_DATA "/models/qwen3_moe/config.json");
  const std::string name = "config.json: ";
  expect_line(error(v3, {{"farskip", true}, {"farskip_start_idx", "0"}}), name,
              "farskip_start_idx");
  expect_line(error(v3, {{"farskip", true}, {"farskip_end_idx", -2}}), name, "at least -1");
  expect_line(error(v3, {{"farskip", true}, {"farskip_lag", 2}}), name, "farskip_lag: found 2");
  expect_line(error(v3, {{"farskip", true}, {"mlp_only_farskip", 1}}), name, "mlp_only_farskip");
  expect_line(error(v3, {{"n_group", 8}, {"topk_group", 8}}), name, "at least 2 experts a group");
  expect_line(error(v3, {{"num_hidden_layers", 4096}, {"n_routed_experts", 65536}}), name,
              "at most 2^20");
  expect_line(error(v3, {{"num_hidden_layers", 4096},
                         {"hidden_size", 1 << 20},
                         {"intermediate_size", 1 << 20},
                         {"first_k_dense_replace", 4096}}),
              name, "fewer than 1e15");
  expect_line(error(qwen, {{"head_dim", nullptr}, {"num_attention_heads", 64}}), name,
              "num_attention_heads");
  const Json windows(Json::array_t(4, "sliding_attention"));
  expect_line(error(qwen, {{"layer_types", windows}, {"use_sliding_window", true}}), name,
              "windows are not supported");
  const Json five(Json::array_t(5, "sliding_attention"));
  expect_line(error(v3, {{"layer_types", five}, {"sliding_window", 8}}), name,
              "layer_types: found [\"sliding_attention\"");
}

/// `farskip inspect DIRECTORY` must exit with 2 and one line on stderr, nothing on stdout.
void expect_refused(const std::filesystem::path& directory, const std::string& piece) {
  SCOPED_TRACE(piece);
  const TemporaryFolder folder;
  const std::string command = util::concat(FARSKIP_BINARY " inspect ", directory, " > ",
                                           folder / "out", " 2> ", folder / "err");
  const int status = std::system(command.c_str());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 2) << status;
  EXPECT_EQ(read_file(folder / "out", 10'000), "");
  std::string line = read_file(folder / "err", 10'000);
  ASSERT_TRUE(line.ends_with('\n')) << line;
  line.pop_back();
  expect_line(line, directory.string(), piece);
}

TEST(Damaged, TheBinaryExitsWithTwoAndOneLine) {
  const std::filesystem::path golden = FARSKIP_TEST_DATA "/models/deepseek_v3";
  const TemporaryFolder folder;
  const std::filesystem::path model = folder / "model";
  expect_refused(model, "found no such file");
  std::filesystem::copy(golden, model);
  const std::string shard = read_file(golden / "model-2-of-3.safetensors", 1 << 20);
  put_file(model / "model-2-of-3.safetensors", shard.substr(0, shard.size() / 2));
  expect_refused(model, "incomplete download");
  std::filesystem::remove(model / "model-2-of-3.safetensors");
  expect_refused(model, "no shard");
  put_file(model / "model.safetensors.index.json", "{\"weight_map\": {}}");
  expect_refused(model, "found no such tensor");
  put_file(model / "config.json", "{\"architectures\": [\"GPT2\\n\"]}");
  expect_refused(model, "architectures: found [\"GPT2\\n\"]");
  put_file(model / "config.json", std::string(100'000, '{'));
  expect_refused(model, "invalid JSON");
}

}  // namespace
}  // namespace farskip::io
