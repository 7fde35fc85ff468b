// bench ttft, bench tbt: prefill and decode of one model, its executions side by side.
#include <iostream>

#include "bench_options.h"
#include "measure/token_report.h"
#include "traces.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  BenchOptions bench;
  std::vector<int64_t> prompt = {512};
  int64_t decode_steps = 0;
  bool messages = false;
  std::string trace;
};

/// The executions over the link.
void write_traces(const Options& options, const measure::TokenSetting& setting,
                  const Ranks& ranks) {
  const std::string what =
      util::concat(options.decode_steps > 0 ? "A decode step after " : "Prefill of ", setting.batch,
                   " x ", setting.prompt, " tokens");
  for (const measure::TokenResult& result : setting.variants)
    if (result.variant.network)
      write_trace(options.trace, what, result.variant, result.timeline, ranks);
}

void run(const Options& options) {
  const BenchOptions& bench = options.bench;
  bench.run.apply();
  const model::ModelConfig config = bench.read_config();
  const model::Connectivity converted = bench.converted(config);
  const Ranks ranks = join(bench.run, {bench.model_fact(config)}, Layouts::either);
  const model::Model model =
      bench.load_share(config, ranks, ranks.share_of_prefill(converted), model::Residence::copied);

  measure::TokenReport report;
  report.figure = options.decode_steps > 0 ? "time between tokens" : "time to the first token";
  report.link = link_name(ranks);
  report.layout = ranks.transport();
  report.own_sequences = !ranks.replicated();
  report.ranks = ranks.grid.size();
  for (const int64_t batch : bench.batch)
    for (const int64_t prompt : options.prompt) {
      const int64_t length = prompt + options.decode_steps;
      util::require(config.max_positions == 0 || length <= config.max_positions, "--prompt",
                    util::concat(prompt, " tokens"),
                    util::concat("at most ", config.max_positions - options.decode_steps));
      if (ranks.leads())
        std::cerr << "measuring " << batch << " x " << prompt << " tokens, " << bench.rounds
                  << " rounds\n";
      report.settings.push_back(
          {batch, prompt,
           measure::bench_tokens(model, ranks.experts, ranks.grid.world, measure::all_variants(),
                                 {.batch = batch,
                                  .prompt = prompt,
                                  .decode_steps = options.decode_steps,
                                  .rounds = bench.rounds,
                                  .warmup = bench.warmup,
                                  .routing = bench.routing_kind(),
                                  .converted = converted,
                                  .seed = bench.seed,
                                  .traced = !options.trace.empty()})});
    }
  if (!options.trace.empty()) write_traces(options, report.settings.front(), ranks);
  if (!ranks.leads()) return;
  if (bench.json) {
    std::cout << report.json().dump() << "\n";
  } else {
    std::cout << report.text(options.messages);
  }
}

CLI::App& add(CLI::App& bench, const char* name, const char* text,
              const std::shared_ptr<Options>& options) {
  CLI::App& verb = *bench.add_subcommand(name, text);
  add_bench_options(verb, options->bench,
                    "Sequences (of all ranks with --transport all-reduce, else of each); a list: "
                    "1,8,32");
  add_list(verb, "--prompt", options->prompt, "Tokens of a prompt; a list: 512,2048");
  verb.add_flag("--by-message", options->messages, "Also a table of the messages");
  add_trace(verb, options->trace);
  verb.callback([options] { run(*options); });
  return verb;
}

}  // namespace

void add_bench_tokens(CLI::App& bench) {
  const auto ttft = std::make_shared<Options>(), tbt = std::make_shared<Options>();
  examples(add(bench, "ttft", "The time to the first token of a batch of prompts", ttft),
           {"farskip launch --ranks 2 --link 500mbit -- bench ttft --config config.json "
            "--dummy-weights --transport all-reduce --prompt 512,2048 --threads 1",
            "farskip launch --ranks 2 -- bench ttft --model DeepSeek-V2-Lite --routing real "
            "--transport all-reduce --json"});
  CLI::App& verb = add(bench, "tbt", "The time between tokens of a batch", tbt);
  tbt->decode_steps = 16;
  verb.add_option("--decode-steps", tbt->decode_steps, "Tokens of a measurement")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  examples(verb, {"farskip launch --ranks 2 --link 500mbit -- bench tbt --config config.json "
                  "--dummy-weights --transport all-reduce --batch 1,8,32 --threads 1"});
}

}  // namespace farskip::app
