// bench: the executions of one model side by side, in one run.
#include <ATen/ATen.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "io/atomic_file.h"
#include "measure/chrome_trace.h"
#include "measure/step_report.h"
#include "measure/timeline_json.h"
#include "measure/timeline_page.h"
#include "options.h"
#include "ranks.h"
#include "util/error.h"
#include "util/progress.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string model, config, routing = "uniform", trace;
  bool dummy_weights = false, json = false, layers = false;
  std::vector<int64_t> batch = {1}, sequence = {512};
  int64_t rounds = 5, warmup = 1, queue_mib = 256, micro_batches = 1;
  uint64_t seed = 0;
  RunOptions run;
};

model::ModelConfig config_of(const Options& options) {
  util::require(options.model.empty() != options.config.empty(), "--model, --config",
                options.model.empty() ? "neither" : "both", "one of them");
  util::require(options.config.empty() || options.dummy_weights, "--config",
                "a configuration without weights", "--dummy-weights with it");
  util::require(options.model.empty() || !options.dummy_weights, "--dummy-weights",
                "it without effect", "--config FILE with it");
  return options.model.empty() ? model::read_config(options.config)
                               : model::read_config(options.model + "/config.json");
}

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

void run_train(Options options) {
  options.run.apply();
  const model::ModelConfig config = config_of(options);
  if (options.run.connectivity.empty()) options.run.connectivity = "farskip";
  const model::Connectivity converted = options.run.resolve(config);
  util::require(!converted.is_regular(), "--connectivity", "regular",
                "farskip, attention or moe, to hold against it");
  const Ranks ranks = join(
      options.run, {options.model.empty() ? config_fact(config) : checkpoint_fact(options.model)});
  const auto dtype = options.run.scalar_type().value_or(model::default_dtype(config));
  model::Model model =
      (options.model.empty()
           ? model::random_model(config, dtype, options.seed, ranks.share,
                                 options.run.torch_device())
           : load(options.model, options.run, model::Residence::mapped, ranks.share, ranks.leads()))
          .trainable();

  measure::StepReport report;
  report.link = ranks.grid.size() == 1 ? "none" : "loopback";
  if (const char* link = std::getenv("FARSKIP_LINK")) report.link = link;
  report.ranks = ranks.grid.size();
  for (const int64_t batch : options.batch)
    for (const int64_t sequence : options.sequence) {
      util::require(config.max_positions == 0 || sequence <= config.max_positions, "--sequence",
                    sequence, util::concat("at most ", config.max_positions));
      if (ranks.leads())
        std::cerr << "measuring " << batch << " x " << sequence << " tokens a rank, "
                  << options.rounds << " rounds\n";
      report.add(batch, sequence,
                 measure::bench_steps(
                     model, ranks.grid, measure::StepReport::variants(),
                     {.batch = batch,
                      .sequence = sequence,
                      .micro_batches = options.micro_batches,
                      .rounds = options.rounds,
                      .warmup = options.warmup,
                      .queue_bytes = options.queue_mib << 20,
                      .routing = options.routing == "real"      ? model::Routing::real
                                 : options.routing == "uniform" ? model::Routing::uniform
                                                                : model::Routing::balanced,
                      .converted = converted,
                      .wire = ranks.experts.wire,
                      .waves = ranks.experts.waves,
                      .seed = options.seed,
                      .traced = true}));
    }
  if (!options.trace.empty()) write_traces(options, report, ranks);
  if (!ranks.leads()) return;
  if (options.json) {
    std::cout << report.json().dump() << "\n";
  } else {
    std::cout << report.text(options.layers);
  }
}

void add_train(CLI::App& bench) {
  CLI::App& verb = *bench.add_subcommand(
      "train",
      "Training steps: regular and FarSkip, blocking and overlapped, and without a network");
  const auto options = std::make_shared<Options>();
  verb.add_option("--model", options->model, "Directory in Hugging Face layout");
  verb.add_option("--config", options->config, "A config.json, for --dummy-weights");
  verb.add_flag("--dummy-weights", options->dummy_weights, "Random weights");
  verb.add_option("--batch", options->batch, "Sequences a rank; a list: 1,2,4")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--sequence", options->sequence, "Tokens a sequence; a list: 512,2048")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--micro-batches", options->micro_batches,
                  "In a step: weight gradients of one may fill waits in the forward of the next")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--routing", options->routing,
                  "real: the router's; uniform: at random; balanced: round robin, which flatters")
      ->check(CLI::IsMember({"real", "uniform", "balanced"}))
      ->capture_default_str();
  verb.add_option("--rounds", options->rounds, "Steps of each variant, which take turns")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--warmup", options->warmup, "Rounds before that are not counted")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--gradient-queue", options->queue_mib,
                  "MiB that weight gradients may hold until they fill a wait")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_flag("--by-layer", options->layers, "Also a table of the layers");
  verb.add_option("--trace", options->trace,
                  "Also write PATH-regular-blocking.html and so on: a picture of one step of every "
                  "rank, and .json for Perfetto or chrome://tracing");
  add_seed(verb, options->seed);
  add_json(verb, options->json);
  add_run_options(verb, options->run);
  examples(verb, {"farskip launch --ranks 2 -- bench train --config config.json --dummy-weights "
                  "--batch 1 --sequence 512,1024 --threads 1",
                  "farskip launch --ranks 2 -- bench train --model DeepSeek-V2-Lite --routing real "
                  "--layers last:50% --json"});
  verb.callback([options] { run_train(*options); });
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App& bench =
      *app.add_subcommand("bench", "Executions of one model side by side, in one run");
  bench.require_subcommand(1);
  add_train(bench);
}

}  // namespace farskip::app
