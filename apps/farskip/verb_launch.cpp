// launch: several ranks of a verb on this machine.
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "comm/launch_environment.h"
#include "comm/local_ranks.h"
#include "options.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  int64_t ranks = 0;
  std::optional<std::string> link;
  std::string bind = "cores";
  std::vector<std::string> words;
};

void run(const Options& options) {
  const comm::LaunchEnvironment started = comm::launch_environment();
  util::require(started.size == 1, "launch",
                util::concat("rank ", started.rank, " of ", started.size, " that ",
                             started.launcher, " started"),
                "one process, which starts all ranks itself");
  comm::LocalRanks ranks;
  ranks.count = options.ranks;
  ranks.bind = options.bind == "cores";
  if (options.link) ranks.link = comm::link_rate(*options.link);
  ranks.command = options.words;
  ranks.command.insert(ranks.command.begin(), std::filesystem::read_symlink("/proc/self/exe"));
  if (const int code = comm::run_local_ranks(ranks)) throw CLI::RuntimeError(code);
}

}  // namespace

void add_launch(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("launch", "Run a verb on several ranks of this machine");
  const auto options = std::make_shared<Options>();
  verb.add_option("--ranks", options->ranks, "Number of ranks, each a process")
      ->required()
      ->check(CLI::Range(1, 4096));
  verb.add_option("--link", options->link,
                  "Emulate a network between the ranks: what each can send and receive, such as "
                  "500mbit or 2.5gbit (default: the machine's loopback)");
  verb.add_option("--bind", options->bind,
                  "cores: keep every rank to its share of the processors, where they are enough; "
                  "none")
      ->check(CLI::IsMember({"cores", "none"}))
      ->capture_default_str();
  verb.add_option("VERB", options->words, "The verb and its options, after `--`")->required();
  examples(verb, {"farskip launch --ranks 2 -- inspect DeepSeek-V2-Lite",
                  "farskip launch --ranks 2 --link 500mbit -- eval DeepSeek-V2-Lite --data "
                  "held-out.txt --ep 2"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
