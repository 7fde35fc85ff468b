#include "bench_options.h"

#include <cstdlib>

#include "util/error.h"

namespace farskip::app {

model::ModelConfig BenchOptions::read_config() const {
  util::require(model.empty() != config.empty(), "--model, --config",
                model.empty() ? "neither" : "both", "one of them");
  util::require(config.empty() || dummy_weights, "--config", "a configuration without weights",
                "--dummy-weights with it");
  util::require(model.empty() || !dummy_weights, "--dummy-weights", "it without effect",
                "--config FILE with it");
  return model::read_config(model.empty() ? config : model + "/config.json");
}

model::Connectivity BenchOptions::converted(const model::ModelConfig& config) const {
  RunOptions wanted = run;
  if (wanted.connectivity.empty()) wanted.connectivity = "farskip";
  const model::Connectivity found = wanted.resolve(config);
  util::require(!found.is_regular(), "--connectivity", "regular",
                "farskip, attention or moe, to hold against it");
  return found;
}

Fact BenchOptions::model_fact(const model::ModelConfig& config) const {
  return model.empty() ? config_fact(config) : checkpoint_fact(model);
}

model::Model BenchOptions::load_share(const model::ModelConfig& config, const Ranks& ranks,
                                      const model::Share& share, model::Residence residence) const {
  if (!model.empty()) return load(model, run, residence, share, ranks.leads());
  return model::random_model(config, run.scalar_type().value_or(model::default_dtype(config)), seed,
                             share, run.torch_device());
}

model::Routing BenchOptions::routing_kind() const {
  if (routing == "real") return model::Routing::real;
  return routing == "uniform" ? model::Routing::uniform : model::Routing::balanced;
}

void add_list(CLI::App& verb, const std::string& name, std::vector<int64_t>& values,
              const std::string& text) {
  verb.add_option(name, values, text)
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_bench_options(CLI::App& verb, BenchOptions& options, const std::string& batch) {
  takes_model(verb.add_option("--model", options.model, kModelHelp));
  verb.add_option("--config", options.config, "A config.json, for --dummy-weights");
  verb.add_flag("--dummy-weights", options.dummy_weights, "Random weights");
  add_list(verb, "--batch", options.batch, batch);
  verb.add_option("--routing", options.routing,
                  "real: the router's; uniform: at random; balanced: round robin, which flatters")
      ->check(CLI::IsMember({"real", "uniform", "balanced"}))
      ->capture_default_str();
  verb.add_option("--rounds", options.rounds, "Measurements of each variant, which take turns")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--warmup", options.warmup, "Rounds before that are not counted")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_seed(verb, options.seed);
  add_json(verb, options.json);
  add_run_options(verb, options.run);
}

std::string link_name(const Ranks& ranks) {
  if (const char* link = std::getenv("FARSKIP_LINK")) return link;
  return ranks.grid.size() == 1 ? "none" : "loopback";
}

}  // namespace farskip::app
