// The verbs as a user runs them: pretrain, kill -9, resume, distill, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <thread>

#include "io/json_file.h"
#include "io/safetensors.h"
#include "support.h"

namespace farskip::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string slurp(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

pid_t start(const std::string& arguments, const fs::path& log) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string command =
        "exec '" FARSKIP_BINARY "' " + arguments + " --threads 1 > '" + log.string() + "' 2>&1";
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  return child;
}

int finish(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

class Verbs : public testing::Test {
 protected:
  Verbs() { write_tiny_run(folder_); }
  std::string quoted(const std::string& name) const {
    return "'" + (folder_ / name).string() + "'";
  }
  std::string pretrain(const std::string& out, const std::string& more = "") const {
    return "pretrain --config " + quoted("config.json") + " --tokenizer '" + demo_.string() +
           "' --data " + quoted("text.txt") + " --out " + quoted(out) +
           " --steps 24 --sequence 32 --batch-tokens 128 --learning-rate 1e-2 --checkpoint-every 3 "
           "--seed 4 " +
           more;
  }
  int run(const std::string& arguments) { return finish(start(arguments, folder_ / "log")); }
  std::string log() const { return slurp(folder_ / "log"); }

  fs::path demo_ = demo_data();
  Folder folder_;
};

TEST_F(Verbs, AKilledRunResumesToTheSameBytesAndCanBeDistilled) {
  ASSERT_EQ(run(pretrain("whole")), 0) << log();
  const pid_t child = start(pretrain("killed"), folder_ / "killed.log");
  const fs::path later = folder_ / "killed" / "checkpoints" / "step-6";
  for (int i = 0; i < 3000 && !fs::exists(later); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  kill(child, SIGKILL);
  ASSERT_EQ(finish(child), -SIGKILL) << "too fast to be killed";
  EXPECT_FALSE(fs::exists(folder_ / "killed" / "config.json"));
  ASSERT_EQ(run(pretrain("killed")), 2);
  EXPECT_THAT(log(), HasSubstr("--resume"));
  ASSERT_EQ(run(pretrain("killed", "--resume --connectivity farskip")), 2);
  EXPECT_THAT(log(), HasSubstr("resumed run: connectivity"));
  ASSERT_EQ(run(pretrain("killed", "--resume")), 0) << log();
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json",
                           "checkpoints/step-24/training.safetensors"})
    EXPECT_EQ(slurp(folder_ / "killed" / file), slurp(folder_ / "whole" / file)) << file;

  ASSERT_EQ(run("distill " + quoted("whole") + " --data " + quoted("text.txt") + " --validation " +
                quoted("text.txt") + " --validation-tokens 512 --out " + quoted("far") +
                " --connectivity farskip --layers last:50% --loss kl+l2 --l2-weight 0.01 --steps 4 "
                "--sequence 32 --batch-tokens 128 --freeze embeddings --dtype bfloat16"),
            0)
      << log();
  EXPECT_THAT(log(), HasSubstr("router agreement"));
  const io::Json config = io::read_json_file(folder_ / "far" / "config.json");
  EXPECT_TRUE(config["farskip"].get<bool>());
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_TRUE(fs::exists(folder_ / "far" / "loss.svg"));
}

TEST_F(Verbs, GradientsOfOneBatchAreWrittenUnderTheirNames) {
  const at::Tensor tokens =
      io::SafetensorsFile::open(golden("instella_moe") / "golden.safetensors").tensor("tokens");
  io::write_safetensors(folder_ / "tokens", {{"tokens", tokens}});
  ASSERT_EQ(run("distill '" + golden("instella_moe").string() + "' --tokens " + quoted("tokens") +
                " --save-gradients " + quoted("gradients") + " --dtype float32"),
            0)
      << log();
  const auto found = io::SafetensorsFile::open(folder_ / "gradients");
  const auto expected = io::SafetensorsFile::open(golden("instella_moe") / "gradients.safetensors");
  EXPECT_NEAR(found.tensor("loss").item<double>(), expected.tensor("kl.loss").item<double>(), 1e-5);
  for (const auto& [name, entry] : expected.header().tensors) {
    if (name.rfind("kl.", 0) != 0) continue;
    const at::Tensor gradient = expected.tensor(name);
    EXPECT_TRUE(found.tensor(name.substr(3)).allclose(gradient, 1e-2, 1e-5)) << name;
  }
}

TEST_F(Verbs, CombinationsWithoutEffectAreRefusedInOneLine) {
  const std::string model = "distill '" + golden("deepseek_v2").string() + "' ";
  const std::string good =
      "--data " + quoted("text.txt") + " --out " + quoted("out") + " --steps 2 ";
  const std::vector<std::pair<std::string, std::string>> table = {
      {model, "--data"},
      {model + "--data " + quoted("text.txt") + " --steps 2", "--out"},
      {model + "--data " + quoted("text.txt") + " --out x", "--steps"},
      {model + good + "--l2-weight 1", "--l2-weight"},
      {model + good + "--loss sft --temperature 2", "--temperature"},
      {model + good + "--tokens x", "--tokens"},
      {model + "--save-gradients g --tokens t --steps 3", "--steps"},
      {model + "--save-gradients g --tokens t --data x", "--data"},
      {model + good + "--patience 3", "--patience"},
      {model + good + "--delta 0.1", "--delta"},
      {model + good + "--higher-is-better", "--higher-is-better"},
      {model + good + "--connectivity regular", "--connectivity"},
      {model + good + "--sequence 100000", "--sequence"},
      {model + good + "--sequence 24 --batch-tokens 100", "--batch-tokens"},
      {model + good + "--sequence 32 --batch-tokens 64", "no tokenizer.json"},
      {pretrain("out", "--balance bias"), "--balance"},
      {pretrain("out", "--balance none --balance-weight 1"), "--balance-weight"},
      {pretrain("out", "--tokens-total 5"), "--tokens-total"},
      {pretrain("out", "--resume"), "no checkpoint"},
      {pretrain("."), "found a model"},
      {pretrain("out", "--data /nowhere.txt"), "/nowhere.txt"},
      {pretrain("out", "--learning-rate 0"), "--learning-rate"}};
  for (const auto& [arguments, expected] : table) {
    EXPECT_EQ(run(arguments), 2) << arguments;
    const std::string text = log();
    EXPECT_THAT(text, HasSubstr(expected)) << arguments;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  }
  EXPECT_FALSE(fs::exists(folder_ / "out" / "config.json"));
}

}  // namespace
}  // namespace farskip::train
