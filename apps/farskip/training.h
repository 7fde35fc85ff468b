// What pretrain and distill share: their options and the run itself.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/model.h"
#include "ranks.h"
#include "train/task.h"

namespace farskip::app {

struct TrainingOptions {
  std::vector<std::string> data, ignored_keys;
  std::string validation, out, eval_command;
  int64_t steps = 0, tokens_total = 0, batch_tokens = 65536, sequence = 0, micro_batch = 0;
  double learning_rate = 0, final_learning_rate = -1, weight_decay = 0, clip = 1;
  double beta1 = 0.9, beta2 = 0.95;
  int64_t warmup = -1, eval_every = 0, validation_tokens = 65536, checkpoint_every = 0, keep = 2;
  int64_t patience = 0, max_skipped = 3;
  double delta = 0;
  int64_t queue_mib = 256;
  bool resume = false, higher_is_better = false, recompute = false, interleave = false;
  uint64_t seed = 0;
};

/// Adds the options; learning_rate and weight_decay hold the verb's own defaults.
void add_training_options(CLI::App& verb, TrainingOptions& options);
/// Refuses combinations in which an option would do nothing.
void check_training_options(const CLI::App& verb, const TrainingOptions& options);
/// Refuses the given options of some groups, which `why` makes useless.
void refuse_groups(const CLI::App& verb, const std::vector<std::string>& groups,
                   const std::string& why, const std::vector<std::string>& allowed = {});

/// Tokens in a row: what --sequence says, else 2,048 or what the model takes.
int64_t sequence_length(const TrainingOptions& options, const model::ModelConfig& config);
/// Sequences in a batch; InputError unless they fill --batch-tokens.
int64_t batch_rows(const TrainingOptions& options, int64_t sequence);

/// Lets the model's weight gradients wait for gaps, where there are any to fill; where ranks only
/// share data, they tell the reduction that they are done.
model::ExpertRanks filling_gaps(const CLI::App& verb, model::Model& model, const Ranks& ranks,
                                const TrainingOptions& options);

struct Training {
  model::Model& model;
  const model::Connectivity& connectivity;
  train::Task& task;
  std::filesystem::path tokenizer;  ///< the folder it lies in
  std::string title;                ///< of the plot
  std::string loss_name;
  nlohmann::json identity;  ///< what a resumed run must have in common with the first part
  comm::Grid grid;
  std::shared_ptr<model::Turns> turns;  ///< of the task's passes (see train::TrainerOptions)
};
/// Runs to the end and leaves the checkpoint in --out.
void run_training(const TrainingOptions& options, const Training& training);

}  // namespace farskip::app
