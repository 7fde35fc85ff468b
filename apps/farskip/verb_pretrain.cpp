// pretrain: a model from scratch, in any connectivity.
#include <iostream>

#include "options.h"
#include "ranks.h"
#include "train/task.h"
#include "training.h"
#include "util/error.h"
#include "util/table.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string config, tokenizer, balance;
  double balance_weight = -1, balance_rate = 1e-3;
  TrainingOptions training;
  RunOptions run;
};

bool has_bias(const model::ModelConfig& config) {
  for (const auto& layer : config.layers)
    if (layer.moe && layer.moe->router.selection == model::ExpertSelection::group_top2_biased)
      return true;
  return false;
}

train::BalanceOptions balance(const CLI::App& verb, const Options& options,
                              const model::ModelConfig& config) {
  train::BalanceOptions balance;
  const std::string kind =
      options.balance.empty() ? (has_bias(config) ? "bias" : "aux") : options.balance;
  refuse_without(verb, "--balance-weight", kind == "aux", "--balance aux");
  refuse_without(verb, "--balance-rate", kind == "bias", "--balance bias");
  if (kind == "none") return balance;
  balance.kind = kind == "aux" ? train::Balance::auxiliary : train::Balance::bias;
  if (kind == "bias" && !has_bias(config))
    throw InputError(
        "--balance: found bias, expected aux or none (this family's router has no selection bias)");
  balance.alpha =
      options.balance_weight >= 0 ? options.balance_weight : config.aux_loss_coefficient;
  balance.by_sequence = !config.source.contains("seq_aux") || config.source["seq_aux"] != false;
  balance.rate = options.balance_rate;
  if (balance.alpha == 0 && kind == "aux") balance.kind = train::Balance::none;
  return balance;
}

void run(const CLI::App& verb, const Options& options) {
  options.run.apply();
  check_training_options(verb, options.training);
  const model::ModelConfig config = model::read_config(options.config);
  const model::Connectivity connectivity = options.run.resolve(config);
  const auto tokenizer = tokenizer_folder(options.tokenizer);
  const at::ScalarType dtype = options.run.scalar_type().value_or(model::default_dtype(config));

  const Ranks ranks = join(options.run, {config_fact(config), options_fact(verb)});
  if (ranks.leads()) show_notes(config.notes);
  model::Model model = model::random_model(config, dtype, options.training.seed, ranks.share,
                                           options.run.torch_device())
                           .trainable();
  model.directory = tokenizer;  // its tokenizer files are saved with the model
  model.only_tokenizer = true;
  const model::ExpertRanks experts = filling_gaps(verb, model, ranks, options.training);
  const auto task = train::pretraining(
      model,
      {.connectivity = connectivity, .ranks = experts, .recompute = options.training.recompute},
      balance(verb, options, config), ranks.grid.world);
  const nlohmann::json identity{{"task", "pretraining"}, {"balance", options.balance}};
  run_training(options.training,
               {model, connectivity, *task, tokenizer, "Pretraining, " + connectivity.describe(),
                "cross entropy", identity, ranks.grid, experts.turns});
}

}  // namespace

void add_pretrain(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("pretrain", "Train a model from scratch");
  const auto options = std::make_shared<Options>();
  options->training.learning_rate = 3e-4;
  options->training.weight_decay = 0.1;
  verb.add_option("--config", options->config, "The config.json of the model to be")->required();
  takes_model(verb.add_option("--tokenizer", options->tokenizer,
                              "A tokenizer.json, or the folder or model that holds one"))
      ->required();
  verb.add_option("--balance", options->balance,
                  "How experts get equal loads: aux = a loss, bias = selection biases that follow "
                  "the load (DeepSeek-V3) (default: bias where the router has them, else aux)")
      ->check(CLI::IsMember({"aux", "bias", "none"}));
  verb.add_option("--balance-weight", options->balance_weight,
                  "Weight of that loss (default: what config.json says; 0 = none)")
      ->check(CLI::NonNegativeNumber);
  verb.add_option("--balance-rate", options->balance_rate, "What a bias changes by in a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_seed(verb, options->training.seed);
  add_training_options(verb, options->training);
  add_run_options(verb, options->run);
  examples(
      verb,
      {"farskip pretrain --config config.json --tokenizer tokenizer.json --data books.txt "
       "--out run --steps 600 --sequence 256 --batch-tokens 2048 --learning-rate 2e-3",
       "farskip pretrain --config config.json --tokenizer tokenizer.json --data a.jsonl b.jsonl "
       "--validation v.jsonl --connectivity farskip --tokens-total 1000000000 "
       "--checkpoint-every 500 --out run",
       "farskip pretrain ... --out run --resume"});
  verb.callback([&verb, options] { run(verb, *options); });
}

}  // namespace farskip::app
