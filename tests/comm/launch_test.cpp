// farskip launch, as the binary does it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "comm/local_ranks.h"

namespace farskip::comm {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

/// What comes of the ranks of a shell script, and what the launch returns.
struct Outcome {
  int code = 0;
  std::string out, text;  ///< stdout, stderr
};

std::string taken(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(path);
  return text;
}

Outcome outcome_of(int64_t count, const std::string& script,
                   milliseconds notice = milliseconds(200), int signal_launcher = 0) {
  const auto path =
      std::filesystem::temp_directory_path() / ("farskip_launch_" + std::to_string(getpid()));
  const std::string out = path.string() + ".out", err = path.string() + ".err";
  const pid_t child = fork();  // a process of its own: a launch owns its process's signals
  if (child == 0) {
    dup2(fileno(std::fopen(out.c_str(), "w")), STDOUT_FILENO);
    dup2(fileno(std::fopen(err.c_str(), "w")), STDERR_FILENO);
    _exit(run_local_ranks({count, {"/bin/sh", "-c", script}, notice, milliseconds(200), {}}));
  }
  if (signal_launcher) {
    std::this_thread::sleep_for(milliseconds(300));
    kill(child, signal_launcher);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WEXITSTATUS(status), taken(out), taken(err)};
}

TEST(Launch, GivesEveryRankItsPlaceAndMarksItsLines) {
  // Another launcher's variables do not reach the ranks.
  setenv("SLURM_PROCID", "7", 1);
  setenv("TORCHELASTIC_RUN_ID", "x", 1);
  const Outcome found =
      outcome_of(3,
                 "echo $RANK of $WORLD_SIZE/$LOCAL_WORLD_SIZE local $LOCAL_RANK at $MASTER_ADDR "
                 "$SLURM_PROCID$TORCHELASTIC_RUN_ID >&2; "
                 "echo result; printf 'no end'; test $MASTER_PORT -gt 0");
  unsetenv("SLURM_PROCID");
  unsetenv("TORCHELASTIC_RUN_ID");
  EXPECT_EQ(found.code, 0);
  EXPECT_EQ(found.out, "result\nno end");  // rank 0's, as it is
  for (const std::string rank : {"0", "1", "2"}) {
    EXPECT_THAT(found.text,
                HasSubstr("[" + rank + "] " + rank + " of 3/3 local " + rank + " at 127.0.0.1\n"));
    if (rank != "0") {
      EXPECT_THAT(found.text, HasSubstr("[" + rank + "] result\n"));
      EXPECT_THAT(found.text, HasSubstr("[" + rank + "] no end\n"));
    }
  }
}

TEST(Launch, ReturnsTheFirstFailureAndStopsTheOthers) {
  const auto start = std::chrono::steady_clock::now();
  // The second failure comes later; the third rank does not end by itself, nor when asked to.
  EXPECT_EQ(outcome_of(3,
                       "case $RANK in 0) exit 3;; 1) sleep 0.1; exit 4;; "
                       "2) trap '' TERM; sleep 60;; esac")
                .code,
            3);
  EXPECT_EQ(outcome_of(2, "if [ $RANK = 1 ]; then kill -9 $$; fi; sleep 60").code, 128 + 9);
  EXPECT_EQ(outcome_of(1, "exec /no/such/program").code, 127);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(Launch, ForwardsSignals) {
  const Outcome found =
      outcome_of(2, "trap 'echo stopping >&2; exit 5' INT; while true; do sleep 0.05; done",
                 milliseconds(200), SIGINT);
  EXPECT_EQ(found.code, 5);
  EXPECT_THAT(found.text, HasSubstr("[0] stopping"));
  EXPECT_THAT(found.text, HasSubstr("[1] stopping"));
}

TEST(Launch, RunsVerbsOfTheBinary) {
  const std::string binary = FARSKIP_BINARY;
  const auto run = [&](const std::string& arguments) {
    return WEXITSTATUS(std::system((binary + " " + arguments + " >/dev/null 2>&1").c_str()));
  };
  EXPECT_EQ(run("launch --ranks 2 -- inspect --help"), 0);
  EXPECT_EQ(run("launch --ranks 2 -- inspect /no/such/model"), 2);
  EXPECT_EQ(run("launch --ranks 0 -- inspect --help"), 2);
  EXPECT_EQ(run("launch -- inspect --help"), 2);
  EXPECT_EQ(run("launch --ranks 2"), 2);
  // Whoever has been started several times starts no ranks.
  EXPECT_EQ(WEXITSTATUS(std::system(("SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 "
                                     "SLURM_STEP_NUM_NODES=1 " +
                                     binary + " launch --ranks 2 -- inspect --help 2>/dev/null")
                                        .c_str())),
            2);
  EXPECT_EQ(run("launch --ranks 2 --link fast -- inspect --help"), 2);
}

}  // namespace
}  // namespace farskip::comm
