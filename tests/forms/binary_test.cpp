// farskip export, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "forms/form.h"
#include "io/json_file.h"
#include "io/support.h"
#include "support/golden.h"

namespace farskip::forms {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Export : public testing::Test {
 protected:
  int run(const fs::path& model, const std::string& options) {
    const std::string command = "'" FARSKIP_BINARY "' export '" + model.string() + "' --out '" +
                                out_.string() + "' " + options + " > '" +
                                (folder_ / "log").string() + "' 2>&1";
    const int status = std::system(command.c_str());
    std::ifstream in(folder_ / "log");
    log_ = {std::istreambuf_iterator<char>(in), {}};
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::set<std::string> written() const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(out_))
      if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), out_).string());
    return names;
  }

  io::TemporaryFolder folder_;
  fs::path out_ = folder_ / "out";
  std::string log_;
};

TEST_F(Export, CopiesEveryTensorAndEveryFileThatBelongsToTheModel) {
  // As the hub's cache lays a model out: links to files of other names.
  const fs::path blobs = folder_ / "blobs", model = folder_ / "snapshot";
  fs::create_directories(blobs);
  fs::create_directories(model / "additional_chat_templates");
  const fs::path golden = test::golden_directory("deepseek_v3");
  int blob = 0;
  const auto link = [&](const fs::path& name, const std::string& text) {
    const fs::path place = blobs / std::to_string(++blob);
    io::put_file(place, text);
    fs::create_symlink(place, model / name);
  };
  for (const auto& entry : fs::directory_iterator(golden)) {
    std::ifstream in(entry.path(), std::ios::binary);
    if (entry.path().filename() != "golden.safetensors")
      link(entry.path().filename(), {std::istreambuf_iterator<char>(in), {}});
  }
  const std::set<std::string> companions = {"tiktoken.model",
                                            "tokenization_moonshot.py",
                                            "chat_template.json",
                                            "preprocessor_config.json",
                                            "generation_config.json",
                                            "LICENSE",
                                            "README.md",
                                            "additional_chat_templates/tools.jinja"};
  for (const std::string& name : companions) link(name, "text of " + name);
  for (const char* name : {".gitattributes", "pytorch_model.bin", "optimizer.pt", "metrics.jsonl",
                           "adapter_config.json", "other.gguf"})
    link(name, "not the model's");
  fs::create_directories(model / "checkpoints" / "step-1");

  ASSERT_EQ(run(model, "--connectivity farskip --layers last:2"), 0) << log_;
  EXPECT_THAT(log_, HasSubstr("FarskipDeepseekV3ForCausalLM, farskip, layers 3:5 of 5"));
  EXPECT_THAT(log_, HasSubstr("note: MODEL computes regular, what is written farskip"));
  std::set<std::string> expected = companions;
  expected.insert({"config.json", "model.safetensors", kModelingFile});
  EXPECT_EQ(written(), expected);
  std::ifstream license(out_ / "LICENSE");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(license), {}), "text of LICENSE");
  EXPECT_FALSE(fs::is_symlink(out_ / "LICENSE"));
  const auto before = io::Checkpoint::open(golden), after = io::Checkpoint::open(out_);
  ASSERT_EQ(after.names(), before.names());
  for (const std::string& name : before.names())
    EXPECT_TRUE(at::equal(before.tensor(name), after.tensor(name))) << name;

  // The same place in another form: our file goes.
  ASSERT_EQ(run(model, "--form regular"), 0) << log_;
  expected.erase(kModelingFile);
  EXPECT_EQ(written(), expected);
  EXPECT_EQ(io::read_json_file(out_ / "config.json")["model_type"], "deepseek_v3");
}

TEST_F(Export, TakesStackedExpertsApart) {
  const auto golden = io::Checkpoint::open(test::golden_directory("qwen3_moe"));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const std::string& name : golden.names())
    if (name.find(".experts.") == std::string::npos)
      tensors.emplace_back(name, golden.tensor(name));
  for (int layer = 0; layer < 4; ++layer) {
    const std::string experts = util::concat("model.layers.", layer, ".mlp.experts.");
    std::vector<at::Tensor> gate_up, down;
    for (int e = 0; e < 8; ++e) {
      const auto of = [&](const char* name) {
        return golden.tensor(util::concat(experts, e, ".", name, "_proj.weight"));
      };
      gate_up.push_back(at::cat({of("gate"), of("up")}));
      down.push_back(of("down"));
    }
    tensors.emplace_back(experts + "gate_up_proj", at::stack(gate_up));
    tensors.emplace_back(experts + "down_proj", at::stack(down));
  }
  const fs::path model = folder_ / "stacked";
  fs::create_directory(model);
  io::write_safetensors(model / "model.safetensors", tensors);
  fs::copy(golden.directory() / "config.json", model / "config.json");
  ASSERT_EQ(run(model, "--connectivity farskip"), 0) << log_;
  const auto written = io::Checkpoint::open(out_);
  ASSERT_EQ(written.names(), golden.names());
  for (const std::string& name : golden.names())
    EXPECT_TRUE(at::equal(written.tensor(name), golden.tensor(name))) << name;
}

TEST_F(Export, GoesRoundThroughEveryFormAndSaysWhatIsLost) {
  ASSERT_EQ(run(test::golden_directory("moonlight"), "--form amd --connectivity farskip"), 0);
  EXPECT_THAT(log_, HasSubstr("note: readers that go by model_type"));
  const fs::path amd = folder_ / "amd";
  fs::rename(out_, amd);
  ASSERT_EQ(run(amd, "--layers last:50%"), 0) << log_;
  EXPECT_THAT(log_, HasSubstr("FarskipDeepseekV3ForCausalLM, farskip, layers 2:4 of 4"));
  const fs::path half = folder_ / "half";
  fs::rename(out_, half);
  ASSERT_EQ(run(half, "--form regular"), 0) << log_;
  EXPECT_THAT(log_, HasSubstr("note: MODEL computes farskip, layers 2:4 of 4, what is written "
                              "regular: another function of the same weights"));
  EXPECT_EQ(io::read_json_file(out_ / "config.json")["architectures"][0], "DeepseekV3ForCausalLM");
}

TEST_F(Export, RefusesInOneLineAndWritesNothing) {
  const fs::path golden = test::golden_directory("qwen3_moe");
  const struct {
    const char* options;
    const char* message;
  } cases[] = {
      {"", "--form hf: found a regular model, expected --connectivity farskip"},
      {"--form amd --connectivity farskip", "--form amd: found Qwen3MoeForCausalLM"},
      {"--form regular --connectivity farskip", "--connectivity: found it without effect"},
      {"--form regular --layers last:2", "--layers: found it without effect"},
      {"--no-auto-map", "--no-auto-map: found it without effect"},
      {"--connectivity farskip --layers 9:", "--layers: found \"9:\""},
      {"--connectivity moe --lag 2", "farskip_lag"},
      {"--form gguf", "--form"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(run(golden, c.options), 2) << c.options;
    EXPECT_THAT(log_, HasSubstr(c.message));
    EXPECT_EQ(std::count(log_.begin(), log_.end(), '\n'), 1) << log_;
    EXPECT_FALSE(fs::exists(out_)) << c.options;
  }
  fs::copy(golden, out_);
  EXPECT_EQ(run(out_, "--connectivity farskip"), 2);
  EXPECT_THAT(log_, HasSubstr("--out: found the folder of MODEL itself"));
}

}  // namespace
}  // namespace farskip::forms
