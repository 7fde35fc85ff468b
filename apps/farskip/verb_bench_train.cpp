// bench train: training steps of one model, its executions side by side.
#include <ATen/ATen.h>

#include <cstring>
#include <filesystem>
#include <iostream>

#include "bench_options.h"
#include "io/atomic_file.h"
#include "measure/chrome_trace.h"
#include "measure/step_report.h"
#include "measure/timeline_json.h"
#include "measure/timeline_page.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  BenchOptions bench;
  std::string trace;
  bool layers = false;
  std::vector<int64_t> sequence = {512};
  int64_t queue_mib = 256, micro_batches = 1;
};

/// The timelines of a variant's traced step, of every rank, on rank 0.
std::vector<measure::Timeline> gather(const measure::Timeline& own, const comm::Group& world) {
  const std::string text = measure::to_json(own);
  const at::Tensor lengths =
      world.all_gather("timelines", at::full({1}, static_cast<int64_t>(text.size()), at::kLong))
          .wait();
  at::Tensor bytes = at::zeros({1, lengths.max().item<int64_t>()}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  const at::Tensor all = world.all_gather("timelines", bytes).wait();
  std::vector<measure::Timeline> found;
  for (int64_t r = 0; r < world.size(); ++r)
    found.push_back(measure::timeline_from_json({static_cast<const char*>(all[r].const_data_ptr()),
                                                 static_cast<size_t>(lengths[r].item<int64_t>())}));
  return found;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  io::AtomicFile file(path);
  file.write(text);
  file.commit();
}

/// A Chrome trace and a page for the executions over the link: PATH-regular-blocking.json and so
/// on.
void write_traces(const Options& options, const measure::StepReport& report, const Ranks& ranks) {
  const measure::StepSetting& setting = report.settings().front();
  for (const measure::VariantResult& result : setting.variants) {
    if (!result.variant.network) continue;
    const auto timelines = gather(result.timeline, ranks.grid.world);
    if (!ranks.leads()) continue;
    const std::string name = util::concat(
        result.variant.converted ? "farskip" : "regular", "-",
        result.variant.execution == model::Execution::blocking ? "blocking" : "overlapped");
    const std::string title = util::concat("A training step, ", name, ": ", setting.batch, " x ",
                                           setting.sequence, " tokens a rank, link ", report.link);
    write_file(options.trace + "-" + name + ".json", measure::chrome_trace(timelines, title));
    write_file(options.trace + "-" + name + ".html", measure::timeline_page(timelines, title));
    std::cerr << "timeline: " << options.trace << "-" << name << ".html (.json for Perfetto)\n";
  }
}

void run(const Options& options) {
  const BenchOptions& bench = options.bench;
  bench.run.apply();
  const model::ModelConfig config = bench.read_config();
  const model::Connectivity converted = bench.converted(config);
  const Ranks ranks = join(bench.run, {bench.model_fact(config)});
  model::Model model = bench.load_share(config, ranks, model::Residence::mapped).trainable();

  measure::StepReport report;
  report.link = link_name(ranks);
  report.ranks = ranks.grid.size();
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
                                       .rounds = bench.rounds,
                                       .warmup = bench.warmup,
                                       .queue_bytes = options.queue_mib << 20,
                                       .routing = bench.routing_kind(),
                                       .converted = converted,
                                       .wire = ranks.experts.wire,
                                       .waves = ranks.experts.waves,
                                       .combine = ranks.experts.combine,
                                       .seed = bench.seed,
                                       .traced = true}));
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
  verb.add_option("--gradient-queue", options->queue_mib,
                  "MiB that weight gradients may hold until they fill a wait")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_flag("--by-layer", options->layers, "Also a table of the layers");
  verb.add_option("--trace", options->trace,
                  "Also write PATH-regular-blocking.html and so on: a picture of one step of every "
                  "rank, and .json for Perfetto or chrome://tracing");
  examples(verb, {"farskip launch --ranks 2 -- bench train --config config.json --dummy-weights "
                  "--batch 1 --sequence 512,1024 --threads 1",
                  "farskip launch --ranks 2 -- bench train --model DeepSeek-V2-Lite --routing real "
                  "--layers last:50% --json"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
