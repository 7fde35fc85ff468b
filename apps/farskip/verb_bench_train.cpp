// bench train: training steps of one model, its executions side by side.
#include <iostream>

#include "bench_options.h"
#include "measure/step_report.h"
#include "traces.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  BenchOptions bench;
  std::string trace, update = "own";
  bool layers = false, interleave = false;
  std::vector<int64_t> sequence = {512};
  int64_t queue_mib = 256, micro_batches = 1;
};

measure::Update update_kind(const std::string& name) {
  using measure::Update;
  return name == "none" ? Update::none : name == "own" ? Update::own : Update::all;
}

/// The executions over the link.
void write_traces(const Options& options, const measure::StepReport& report, const Ranks& ranks) {
  const measure::StepSetting& setting = report.settings().front();
  const std::string what =
      util::concat("A training step, ", setting.batch, " x ", setting.sequence, " tokens a rank");
  for (const measure::VariantResult& result : setting.variants)
    if (result.variant.network)
      write_trace(options.trace, what, result.variant, result.timeline, ranks);
}

void run(const Options& options) {
  const BenchOptions& bench = options.bench;
  bench.run.apply();
  if (options.interleave)
    util::require(options.micro_batches > 1, "--interleave", "one micro-batch",
                  "--micro-batches of 2 or more");
  const model::ModelConfig config = bench.read_config();
  const model::Connectivity converted = bench.converted(config);
  const Ranks ranks = join(bench.run, {bench.model_fact(config)});
  util::require(!options.interleave || ranks.grid.ep > 1, "--interleave", "all experts on one rank",
                "ranks that share the experts (farskip launch --ranks 2 -- ...)");
  util::require(options.update != "all" || ranks.grid.size() > 1, "--update all", "one rank",
                "ranks that exchange gradients (farskip launch --ranks 2 -- ...)");
  model::Model model =
      bench.load_share(config, ranks, ranks.share, model::Residence::mapped).trainable();

  measure::StepReport report;
  report.link = link_name(ranks);
  report.ranks = ranks.grid.size();
  report.update = update_kind(options.update);
  for (const int64_t batch : bench.batch)
    for (const int64_t sequence : options.sequence) {
      util::require(config.max_positions == 0 || sequence <= config.max_positions, "--sequence",
                    sequence, util::concat("at most ", config.max_positions));
      if (ranks.leads())
        std::cerr << "measuring " << batch << " x " << sequence << " tokens a rank, "
                  << bench.rounds << " rounds\n";
      report.add(batch, sequence,
                 measure::bench_steps(model, ranks.grid, measure::all_variants(),
                                      {.batch = batch,
                                       .sequence = sequence,
                                       .micro_batches = options.micro_batches,
                                       .interleave = options.interleave,
                                       .rounds = bench.rounds,
                                       .warmup = bench.warmup,
                                       .queue_bytes = options.queue_mib << 20,
                                       .routing = bench.routing_kind(),
                                       .converted = converted,
                                       .wire = ranks.experts.wire,
                                       .waves = ranks.experts.waves,
                                       .combine = ranks.experts.combine,
                                       .update = report.update,
                                       .seed = bench.seed,
                                       .traced = !options.trace.empty()}));
    }
  if (!options.trace.empty()) write_traces(options, report, ranks);
  if (!ranks.leads()) return;
  if (bench.json) {
    std::cout << report.json().dump() << "\n";
  } else {
    std::cout << report.text(options.layers);
  }
}

}  // namespace

void add_bench_train(CLI::App& bench) {
  CLI::App& verb = *bench.add_subcommand(
      "train",
      "Training steps: regular and FarSkip, blocking and overlapped, and without a network");
  const auto options = std::make_shared<Options>();
  add_bench_options(verb, options->bench, "Sequences a rank; a list: 1,2,4");
  add_list(verb, "--sequence", options->sequence, "Tokens a sequence; a list: 512,2048");
  verb.add_option("--micro-batches", options->micro_batches,
                  "In a step: weight gradients of one may fill waits in the forward of the next")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_flag("--interleave", options->interleave,
                "In overlapped executions, run the forward pass of a micro-batch beside the "
                "backward pass of the one before");
  verb.add_option("--gradient-queue", options->queue_mib,
                  "MiB that weight gradients may hold until they fill a wait")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--update", options->update,
                  "In a step: none: forward, loss and backward alone; own: also the optimizer's "
                  "work on what a rank owns; all: also the messages of gradients and weights")
      ->check(CLI::IsMember({"none", "own", "all"}))
      ->capture_default_str();
  verb.add_flag("--by-layer", options->layers, "Also a table of the layers");
  add_trace(verb, options->trace);
  examples(verb, {"farskip launch --ranks 2 -- bench train --config config.json --dummy-weights "
                  "--batch 1 --sequence 512,1024 --threads 1",
                  "farskip launch --ranks 2 -- bench train --model DeepSeek-V2-Lite --routing real "
                  "--layers last:50% --json"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
