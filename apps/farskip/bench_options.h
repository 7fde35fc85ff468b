// What the bench verbs have in common.
#pragma once
#include <string>
#include <vector>

#include "model/synthetic_routes.h"
#include "options.h"
#include "ranks.h"

namespace farskip::app {

struct BenchOptions {
  std::string model, config, routing = "uniform";
  bool dummy_weights = false, json = false;
  std::vector<int64_t> batch = {1};
  int64_t rounds = 5, warmup = 1;
  uint64_t seed = 0;
  RunOptions run;

  /// InputError unless they say one model.
  model::ModelConfig read_config() const;
  /// The connectivity that is held against the regular one.
  model::Connectivity converted(const model::ModelConfig& config) const;
  /// What every rank must have alike.
  Fact model_fact(const model::ModelConfig& config) const;
  /// This rank's share of the model.
  model::Model load_share(const model::ModelConfig& config, const Ranks& ranks,
                          const model::Share& share, model::Residence residence) const;
  model::Routing routing_kind() const;
};

void add_bench_train(CLI::App& bench);
void add_bench_tokens(CLI::App& bench);

/// `batch`: what --batch says in --help.
void add_bench_options(CLI::App& verb, BenchOptions& options, const std::string& batch);

/// A list of numbers, as in 512,2048.
void add_list(CLI::App& verb, const std::string& name, std::vector<int64_t>& values,
              const std::string& text);

/// The link between the ranks, as the launcher says it.
std::string link_name(const Ranks& ranks);

}  // namespace farskip::app
