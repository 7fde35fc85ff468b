// farskip launch with training verbs, as a user runs them: what happens when a rank fails.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cmath>
#include <regex>
#include <sstream>
#include <thread>

#include "io/json_file.h"
#include "io/safetensors.h"
#include "support.h"
#include "util/error.h"

namespace farskip::train {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using testing::HasSubstr;

class RankVerbs : public testing::Test {
 protected:
  RankVerbs() { write_tiny_run(folder_); }
  std::string pretrain(const std::string& out, const std::string& more = "",
                       const std::string& timeout = "20") const {
    return "pretrain --config '" + (folder_ / "config.json").string() + "' --tokenizer '" +
           demo_.string() + "' --data '" + (folder_ / "text.txt").string() + "' --out '" +
           (folder_ / out).string() + "' --sequence 32 --batch-tokens 128 --threads 1 --timeout " +
           timeout + " " + more;
  }
  pid_t start(const std::string& command) const {
    const pid_t child = fork();
    if (child == 0) {
      const std::string line = "exec " + command + " > '" + (folder_ / "log").string() + "' 2>&1";
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    return child;
  }
  static int finish(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int run(const std::string& command) const { return finish(start(command)); }
  std::string launch(int ranks, const std::string& words) const {
    return "'" FARSKIP_BINARY "' launch --ranks " + std::to_string(ranks) + " -- " + words;
  }
  std::string log() const {
    std::ifstream in(folder_ / "log", std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  /// The process of a rank, among the launcher's children.
  static pid_t rank_process(pid_t launcher, int rank) {
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string pid = entry.path().filename().string();
      if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream stat(entry.path() / "stat"), environment(entry.path() / "environ");
      std::string word;
      pid_t parent = 0;
      stat >> word >> word >> word >> parent;
      const std::string variables((std::istreambuf_iterator<char>(environment)), {});
      const std::string wanted = std::string("RANK=") + std::to_string(rank) + '\0';
      if (parent == launcher && ('\0' + variables).find('\0' + wanted) != std::string::npos)
        return std::stoi(pid);
    }
    return 0;
  }

  fs::path demo_ = demo_data();
  Folder folder_;
};

TEST_F(RankVerbs, ARankThatIsKilledEndsTheOthersWithALineThatNamesTheMessage) {
  // At moments that fall into forward, backward, optimizer and saving.
  for (const int wait_ms : {0, 23, 51, 87}) {
    fs::remove_all(folder_ / "out");
    const std::string more = wait_ms % 2 ? " --micro-batch 1 --interleave" : "";
    const pid_t launcher =
        start(launch(2, pretrain("out", "--steps 100000 --checkpoint-every 2 --ep 2" + more)));
    const fs::path first = folder_ / "out" / "checkpoints" / "step-2";
    for (int i = 0; i < 4000 && !fs::exists(first); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_TRUE(fs::exists(first)) << log();
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    const pid_t rank = rank_process(launcher, 1);
    ASSERT_GT(rank, 0);
    const auto begin = std::chrono::steady_clock::now();
    kill(rank, SIGKILL);
    EXPECT_EQ(finish(launcher), 128 + SIGKILL);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(15));
    const std::string said = log();
    EXPECT_TRUE(
        std::regex_search(said, std::regex(R"(\[0\] farskip: error: rank 0 of 2: [a-z0-9 ,]+)")))
        << said;
    // Whatever it was doing, the run can go on.
    fs::remove_all(folder_ / "again");
    EXPECT_EQ(
        run(launch(2, pretrain("out", "--steps 100001 --checkpoint-every 2 --resume --ep 3"))), 2);
  }
  const std::string latest = [&] {
    std::ifstream in(folder_ / "out" / "checkpoints" / "latest");
    std::string name;
    in >> name;
    return name.substr(5);
  }();
  const std::string more =
      "--steps " + std::to_string(std::stoi(latest) + 2) + " --checkpoint-every 2 --resume";
  EXPECT_EQ(run(launch(4, pretrain("out", more))), 0) << log();
}

TEST_F(RankVerbs, ARankThatHangsIsGivenUpAfterTheTimeout) {
  const pid_t launcher =
      start(launch(2, pretrain("out", "--steps 100000 --checkpoint-every 2", "2")));
  const fs::path first = folder_ / "out" / "checkpoints" / "step-2";
  for (int i = 0; i < 4000 && !fs::exists(first); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const pid_t rank = rank_process(launcher, 1);
  ASSERT_GT(rank, 0) << log();
  const auto begin = std::chrono::steady_clock::now();
  kill(rank, SIGSTOP);
  EXPECT_EQ(finish(launcher), 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(30));
  EXPECT_THAT(log(), HasSubstr("[0] farskip: error: rank 0 of 2: "));
  EXPECT_NE(kill(rank, 0), 0) << "the stopped rank is still there";
}

TEST_F(RankVerbs, WhatCannotBeIsRefusedOnEveryRank) {
  struct Case {
    std::string command, says;
    int code = 2;
  };
  const std::string steps = "--steps 2 ";
  const std::vector<Case> cases = {
      {launch(3, pretrain("a", steps + "--ep 3")), "--ep: found 3, expected a divisor"},
      {launch(2, pretrain("a", steps + "--ep 4")), "expected a divisor of 2 ranks"},
      {launch(2, pretrain("a", steps + "--ep 2 --dp 2")), "--ep x --dp: found 2 x 2"},
      {launch(2, pretrain("a", steps + "--tp 2")), "--tp: found 2"},
      {launch(2, pretrain("a", steps + "--transport all-gather")),
       "--transport: found all-gather, expected all-to-all"},
      {launch(3, pretrain("a", steps + "--ep 1")), "expected a multiple of the 3 ranks"},
      {launch(2, pretrain("a", steps + "--interleave")), "--interleave: found one micro-batch"},
      {launch(2, pretrain("a", steps + "--interleave --execution blocking")), "--interleave"},
      {"'" FARSKIP_BINARY "' " + pretrain("a", steps + "--ep 2"), "--ep: found 2"},
      {"'" FARSKIP_BINARY "' " + pretrain("a", steps + "--wire-dtype bfloat16"), "--wire-dtype"},
      {"'" FARSKIP_BINARY "' " + pretrain("a", steps + "--combine rank"), "--combine"},
      {"env RANK=5 WORLD_SIZE=2 '" FARSKIP_BINARY "' " + pretrain("a", steps), "RANK"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(run(c.command), c.code) << c.command << "\n" << log();
    EXPECT_THAT(log(), HasSubstr(c.says)) << c.command;
  }
}

TEST_F(RankVerbs, LogitsGradientsAndFiguresAreThoseOfOneRank) {
  const fs::path model = golden("deepseek_v3");
  const at::Tensor tokens =
      io::SafetensorsFile::open(model / "golden.safetensors").tensor("tokens");
  // Three rows: the second rank has one less than the first.
  io::write_safetensors(folder_ / "tokens",
                        {{"tokens", at::cat({tokens, tokens.narrow(0, 0, 1)})}});
  const std::string common = "'" + model.string() + "' --connectivity farskip --threads 1 " +
                             "--dtype float32 --tokens '" + (folder_ / "tokens").string() + "' ";
  const auto file = [&](const char* what, int ranks) {
    return folder_ / (what + std::to_string(ranks));
  };
  for (const int ranks : {1, 2}) {
    ASSERT_EQ(run(launch(ranks, "logits " + common + "--hidden-states --out '" +
                                    file("logits", ranks).string() + "'")),
              0)
        << log();
    ASSERT_EQ(
        run(launch(ranks, "distill " + common + (ranks > 1 ? "--combine rank " : "") +
                              "--save-gradients '" + file("gradients", ranks).string() + "'")),
        0)
        << log();
  }
  ASSERT_EQ(run(launch(2, "logits " + common + "--hidden-states --transport all-gather --out '" +
                              file("gathered", 2).string() + "'")),
            0)
      << log();
  fs::copy_file(file("logits", 1), file("gathered", 1));
  for (const char* what : {"logits", "gathered", "gradients"}) {
    const auto one = io::read_safetensors(file(what, 1)), two = io::read_safetensors(file(what, 2));
    ASSERT_EQ(one.size(), two.size());
    for (const auto& [name, expected] : one)
      EXPECT_LE((two.at(name) - expected).abs().max().item<double>(),
                1e-4 * expected.abs().max().item<double>() + 1e-9)
          << what << " " << name;
  }

  ASSERT_EQ(run(launch(1, pretrain("model", "--steps 3"))), 0) << log();
  std::vector<std::string> figures;
  for (const auto& [ranks, transport] :
       {std::pair{1, "all-to-all"}, {2, "all-to-all"}, {4, "all-to-all"}, {2, "all-gather"}}) {
    ASSERT_EQ(run(launch(ranks, "eval '" + (folder_ / "model").string() + "' --teacher '" +
                                    (folder_ / "model").string() +
                                    "' --teacher-connectivity regular --connectivity farskip "
                                    "--sequence 32 --max-tokens 480 --batch 2 --json --data '" +
                                    (folder_ / "text.txt").string() + "' --threads 1 --transport " +
                                    transport)),
              0)
        << log();
    const std::string said = log();
    const auto found =
        nlohmann::json::parse(said.substr(said.find('{'), said.rfind('}') + 1 - said.find('{')));
    std::string line;
    for (const char* key : {"tokens", "loss", "kl", "top1_agreement", "router_agreement"})
      line += util::concat(key, " ", std::round(found.at(key).get<double>() * 1e4) / 1e4, " ");
    figures.push_back(line);
  }
  for (const std::string& other : figures) EXPECT_EQ(other, figures[0]);
}

TEST_F(RankVerbs, AllTokensOnEveryRankGiveWhatOneRankGives) {
  io::Json config = io::read_json_file(folder_ / "config.json");
  config["num_attention_heads"] = config["num_key_value_heads"] = 4;
  io::write_json_file(folder_ / "config.json", config);
  ASSERT_EQ(run(launch(1, pretrain("model", "--steps 3"))), 0) << log();
  io::write_safetensors(folder_ / "tokens",
                        {{"tokens", at::arange(120).remainder(90).view({3, 40})}});
  const std::string model = " '" + (folder_ / "model").string() + "' ";
  const auto with = [](int ranks, const std::string& more) {
    return " --threads 1 --connectivity farskip " +
           (ranks == 1 ? "" : "--tp " + std::to_string(ranks) + " --transport all-reduce " + more);
  };
  const auto json = [&] {
    const std::string said = log();
    return nlohmann::json::parse(said.substr(said.find('{'), said.rfind('}') + 1 - said.find('{')));
  };
  std::map<std::string, at::Tensor> one;
  nlohmann::json generated, sampled, figures;
  for (const int ranks : {1, 2, 4})
    for (const std::string& more :
         {std::string(), std::string("--ep 1 --execution blocking --expert-waves 3")}) {
      SCOPED_TRACE(util::concat(ranks, " ranks ", more));
      const fs::path out = folder_ / "logits";
      ASSERT_EQ(run(launch(ranks, "logits" + model + "--hidden-states --dtype float32 --tokens '" +
                                      (folder_ / "tokens").string() + "' --out '" + out.string() +
                                      "'" + with(ranks, more))),
                0)
          << log();
      const auto found = io::read_safetensors(out);
      if (one.empty()) one = found;
      ASSERT_EQ(found.size(), one.size());
      for (const auto& [name, expected] : one)
        EXPECT_LE((found.at(name) - expected).abs().max().item<double>(),
                  1e-4 * expected.abs().max().item<double>())
            << name;
      for (auto [sampling, expected] :
           {std::pair{"", &generated}, {"--temperature 0.8 --top-p 0.9 --seed 5 ", &sampled}}) {
        ASSERT_EQ(
            run(launch(ranks, "generate" + model + "--prompt 'It was the best' --json " + sampling +
                                  "--max-new-tokens 12 --dtype float32" + with(ranks, more))),
            0)
            << log();
        if (expected->is_null()) *expected = json();
        EXPECT_EQ(json().at("tokens"), expected->at("tokens"));
        EXPECT_EQ(json().at("text"), expected->at("text"));
      }
      ASSERT_EQ(run(launch(ranks, "eval" + model +
                                      "--sequence 32 --max-tokens 480 --batch 2 --json"
                                      " --dtype float32 --teacher" +
                                      model + "--teacher-connectivity regular --data '" +
                                      (folder_ / "text.txt").string() + "'" + with(ranks, more))),
                0)
          << log();
      if (figures.is_null()) figures = json();
      for (const char* key : {"tokens", "loss", "kl", "top1_agreement", "router_agreement"})
        EXPECT_NEAR(json().at(key).get<double>(), figures.at(key).get<double>(), 1e-4) << key;
    }

  struct Case {
    int ranks;
    std::string command, says;
  };
  const std::vector<Case> cases = {
      {3, "generate" + model + "--prompt a --threads 1", "--tp: found 3, expected a divisor"},
      {2, "generate" + model + "--prompt a --tp 4", "--tp: found 4, expected 2 ranks"},
      {2, "generate" + model + "--prompt a --tp 2 --transport all-gather", "all-reduce with --tp"},
      {2, "generate" + model + "--prompt a --tp 2 --transport all-to-all", "all-reduce with --tp"},
      {2, "generate" + model + "--prompt a --dp 2", "--dp: found 2, expected 1"},
      {1, "generate" + model + "--prompt a --tp 2", "--tp: found 2, expected 1 rank"},
      {2, "logits" + model + "--tokens x --out y --tp 2 --transport all-to-all", "all-reduce with"},
      {2, "logits" + model + "--tokens x --out y --tp 2 --transport all-gather", "all-reduce with"},
      {2, "logits" + model + "--tokens x --out y --tp 2 --ep 3", "--ep: found 3, expected a div"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(run(launch(c.ranks, c.command)), 2) << c.command << "\n" << log();
    EXPECT_THAT(log(), HasSubstr(c.says)) << c.command;
  }
}

TEST_F(RankVerbs, PromptsThatRanksShareOutComeInTheirOrder) {
  ASSERT_EQ(run(launch(1, pretrain("model", "--steps 3"))), 0) << log();
  std::string prompts;
  for (const char* prompt : {"It was the best", "of", "times, it was the worst of times"})
    prompts += std::string(" --prompt '") + prompt + "'";
  std::vector<std::string> expected;
  for (const int ranks : {1, 2}) {
    ASSERT_EQ(run(launch(ranks, "generate '" + (folder_ / "model").string() +
                                    "' --threads 1 --json --max-new-tokens 12 --dtype float32 "
                                    "--transport all-to-all" +
                                    prompts)),
              0)
        << log();
    std::istringstream lines(log());
    std::vector<std::string> texts;
    for (std::string line; std::getline(lines, line);)
      if (const size_t begin = line.find('{'); begin != line.npos)
        texts.push_back(nlohmann::json::parse(line.substr(begin)).at("text"));
    EXPECT_EQ(texts.size(), 3u) << log();
    if (ranks == 1) expected = texts;
    EXPECT_EQ(texts, expected);
  }
}

TEST_F(RankVerbs, RanksThatRunDifferentThingsAllStop) {
  const std::string own = (folder_ / "own.sh").string();
  std::ofstream(own) << "exec '" FARSKIP_BINARY "' "
                     << pretrain("a", "--steps 2 --learning-rate 1e-3$RANK") << "\n";
  const std::string both =
      "for r in 0 1; do RANK=$r WORLD_SIZE=2 LOCAL_RANK=$r MASTER_ADDR=127.0.0.1 "
      "MASTER_PORT=$((20000 + $$ % 20000)) sh '" +
      own +
      "' & pids=\"$pids $!\"; done; code=0; for p in $pids; do wait $p || "
      "code=$?; done; exit $code";
  EXPECT_EQ(run("sh -c '" + std::regex_replace(both, std::regex("'"), "'\\''") + "'"), 2) << log();
  EXPECT_THAT(log(), HasSubstr("rank 1: options: found"));
  EXPECT_THAT(log(), HasSubstr("rank 0: options: found"));
}

}  // namespace
}  // namespace farskip::train
