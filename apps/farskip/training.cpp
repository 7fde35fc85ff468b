#include "training.h"

#include <algorithm>
#include <iostream>

#include "forms/form.h"
#include "text/codec.h"
#include "text/tables.h"
#include "train/trainer.h"
#include "util/error.h"
#include "util/table.h"

namespace farskip::app {
namespace {

int64_t run_length(const TrainingOptions& options, int64_t batch_tokens) {
  if (options.steps > 0) return options.steps;
  return std::max<int64_t>(1, (options.tokens_total + batch_tokens - 1) / batch_tokens);
}

}  // namespace

void add_training_options(CLI::App& verb, TrainingOptions& o) {
  const auto positive = CLI::PositiveNumber;
  const auto natural = CLI::NonNegativeNumber;
  const std::string data = "Data", learning = "Learning", run = "Run";
  verb.add_option("--data", o.data,
                  "Training data: .jsonl, .json, .parquet or .arrow files (a row is text, prompt "
                  "and response, or messages: docs/training.md) or plain text (a file is a "
                  "document)")
      ->group(data);
  add_ignored_keys(verb, o.ignored_keys)->group(data);
  verb.add_option("--validation", o.validation, "A file of the same kinds to evaluate on")
      ->group(data);
  verb.add_option("--validation-tokens", o.validation_tokens, "Most tokens of it that are used")
      ->check(positive)
      ->capture_default_str()
      ->group(data);
  verb.add_option("--sequence", o.sequence,
                  "Tokens in a row (default: 2048, or what the model takes if that is less)")
      ->check(positive)
      ->group(data);

  auto* steps = verb.add_option("--steps", o.steps, "Length of the run in updates");
  steps->check(positive)->group(learning);
  verb.add_option("--tokens-total", o.tokens_total, "Length of the run in tokens")
      ->check(positive)
      ->excludes(steps)
      ->group(learning);
  verb.add_option("--batch-tokens", o.batch_tokens, "Tokens of one update")
      ->check(positive)
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--micro-batch", o.micro_batch,
                  "Sequences in one forward pass; gradients add up to the batch (default: as many "
                  "as make 4096 tokens)")
      ->check(positive)
      ->group(learning);
  verb.add_option("--learning-rate", o.learning_rate, "Peak rate")
      ->check(positive)
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--final-learning-rate", o.final_learning_rate,
                  "Rate at the end of the cosine (default: a tenth of the peak)")
      ->check(natural)
      ->group(learning);
  verb.add_option("--warmup", o.warmup,
                  "Steps of linear warm-up (default: a twentieth of the run, at most 1000)")
      ->check(natural)
      ->group(learning);
  verb.add_option("--weight-decay", o.weight_decay, "AdamW's, of all but norms and biases")
      ->check(natural)
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--beta1", o.beta1, "AdamW's first decay")
      ->check(CLI::Range(0.0, 0.9999))
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--beta2", o.beta2, "AdamW's second decay")
      ->check(CLI::Range(0.0, 0.99999))
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--clip", o.clip, "Largest global gradient norm; 0 = any")
      ->check(natural)
      ->capture_default_str()
      ->group(learning);
  verb.add_option("--max-skipped", o.max_skipped,
                  "A step whose loss or gradient is not finite is skipped and said so; this many "
                  "in a row end the run")
      ->check(positive)
      ->capture_default_str()
      ->group(learning);

  verb.add_flag("--recompute", o.recompute,
                "Compute the layers again in the backward pass instead of keeping what they "
                "computed: less memory, a third more work, the same bits")
      ->group(learning);
  verb.add_option("--gradient-queue", o.queue_mib,
                  "MiB that weight gradients may hold until they fill a wait for a message (--ep)")
      ->check(natural)
      ->capture_default_str()
      ->group(run);
  verb.add_flag("--interleave", o.interleave,
                "Run the forward pass of a micro-batch beside the backward pass of the one before, "
                "so that either computes while the other waits for a message: the same bits, more "
                "hidden, the memory of two micro-batches (--ep)")
      ->group(run);
  verb.add_option("--out", o.out,
                  "Folder of the run: the model, checkpoints/, metrics.jsonl and loss.svg")
      ->group(run);
  verb.add_flag("--resume", o.resume,
                "Go on from the latest checkpoint in --out, to the same bits as without the break")
      ->group(run);
  verb.add_option("--checkpoint-every", o.checkpoint_every,
                  "Steps between checkpoints (default: a tenth of the run)")
      ->check(positive)
      ->group(run);
  verb.add_option("--keep", o.keep, "Checkpoints that are kept besides the best one")
      ->check(positive)
      ->capture_default_str()
      ->group(run);
  verb.add_option("--eval-every", o.eval_every,
                  "Steps between evaluations (default: a tenth of the run)")
      ->check(positive)
      ->group(run);
  verb.add_option("--patience", o.patience,
                  "Stop after this many evaluations in a row without a better score and keep the "
                  "best checkpoint (default: never)")
      ->check(positive)
      ->group(run);
  verb.add_option("--delta", o.delta,
                  "By how much a score must be better, relative to the best (0.02 = 2 %)")
      ->check(natural)
      ->capture_default_str()
      ->group(run);
  verb.add_option("--eval-command", o.eval_command,
                  "Shell command that gets a checkpoint's path as its last word and prints a "
                  "number last: the score, instead of the validation loss")
      ->group(run);
  verb.add_flag("--higher-is-better", o.higher_is_better, "Of that number (default: lower is)")
      ->group(run);
}

model::ExpertRanks filling_gaps(const CLI::App& verb, model::Model& model, const Ranks& ranks,
                                const TrainingOptions& options) {
  model::ExpertRanks experts = ranks.experts;
  const bool overlapped = experts.execution == model::Execution::overlapped;
  const bool gaps = experts.courier && overlapped;
  for (const char* option : {"--gradient-queue", "--interleave"})
    refuse_without(verb, option, gaps, "--ep above 1 and --execution overlapped");
  if (!overlapped || ranks.grid.size() == 1) return experts;
  if (options.interleave) experts.turns = std::make_shared<model::Turns>();
  experts.queue = std::make_shared<model::GradientQueue>(gaps ? options.queue_mib << 20 : 0);
  model.defer_gradients(experts.queue);
  return experts;
}

void refuse_groups(const CLI::App& verb, const std::vector<std::string>& groups,
                   const std::string& why, const std::vector<std::string>& allowed) {
  const auto among = [](const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
  };
  for (const CLI::Option* option : verb.get_options())
    if (option->count() > 0 && among(groups, option->get_group()) &&
        !among(allowed, option->get_name()))
      throw InputError(option->get_name() + ": found it with " + why +
                       ", where it has no effect, expected one or the other");
}

void check_training_options(const CLI::App& verb, const TrainingOptions& o) {
  util::require(!o.data.empty(), "--data", "nothing", "one or more files");
  util::require(!o.out.empty(), "--out", "nothing", "a folder for the run");
  util::require(o.steps > 0 || o.tokens_total > 0, "--steps", "nothing",
                "--steps N or --tokens-total N");
  const bool scored = !o.validation.empty() || !o.eval_command.empty();
  for (const char* option : {"--eval-every", "--patience"})
    refuse_without(verb, option, scored, "--validation FILE or --eval-command COMMAND");
  refuse_without(verb, "--delta", o.patience > 0, "--patience N");
  refuse_without(verb, "--validation-tokens", !o.validation.empty(), "--validation FILE");
  refuse_without(verb, "--higher-is-better", !o.eval_command.empty(), "--eval-command COMMAND");
}

int64_t sequence_length(const TrainingOptions& options, const model::ModelConfig& config) {
  const int64_t most = config.max_positions;
  if (options.sequence == 0) return most > 0 ? std::min<int64_t>(2048, most) : 2048;
  util::require(most == 0 || options.sequence <= most, "--sequence", options.sequence,
                util::concat("at most the model's max_position_embeddings ", most));
  return options.sequence;
}

int64_t batch_rows(const TrainingOptions& options, int64_t sequence) {
  util::require(options.batch_tokens % sequence == 0, "--batch-tokens", options.batch_tokens,
                util::concat("a multiple of the sequence length ", sequence));
  return options.batch_tokens / sequence;
}

void run_training(const TrainingOptions& o, const Training& training) {
  const model::ModelConfig& config = training.model.config;
  const int64_t sequence = sequence_length(o, config), rows = batch_rows(o, sequence);
  const train::TextCodec codec =
      text::open_codec(training.tokenizer, &config, {o.ignored_keys.begin(), o.ignored_keys.end()});
  const train::Pieces pieces = text::open_pieces({o.data.begin(), o.data.end()});
  train::Loader loader(pieces, codec, rows, sequence, o.seed);
  std::optional<train::Rows> validation;
  if (!o.validation.empty())
    validation =
        train::first_rows(text::open_pieces({o.validation}), codec, sequence, o.validation_tokens);

  const int64_t steps = run_length(o, o.batch_tokens);
  train::TrainerOptions settings;
  settings.grid = training.grid;
  settings.queue = training.model.weights.embedding.queue;
  settings.micro_rows =
      std::min(rows, o.micro_batch > 0 ? o.micro_batch : std::max<int64_t>(1, 4096 / sequence));
  settings.turns = training.turns;
  if (settings.turns && settings.micro_rows * training.grid.size() >= rows)
    throw InputError(util::concat("--interleave: found one micro-batch of ", settings.micro_rows,
                                  " sequences a rank and update, expected several (a smaller "
                                  "--micro-batch or a larger --batch-tokens)"));
  settings.rate = {
      .peak = o.learning_rate,
      .final = o.final_learning_rate >= 0 ? o.final_learning_rate : o.learning_rate / 10,
      .warmup = o.warmup >= 0 ? o.warmup : std::min<int64_t>(1000, steps / 20),
      .steps = steps};
  settings.clip = o.clip;
  settings.adamw = {.beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = o.weight_decay};
  settings.eval_every = o.eval_every > 0 ? o.eval_every : std::max<int64_t>(1, steps / 10);
  settings.checkpoint_every =
      o.checkpoint_every > 0 ? o.checkpoint_every : std::max<int64_t>(1, steps / 10);
  settings.keep = o.keep;
  settings.patience = o.patience;
  settings.delta = o.delta;
  settings.eval_command = o.eval_command;
  settings.higher_is_better = o.higher_is_better;
  settings.max_skipped = o.max_skipped;
  settings.title = training.title;
  settings.loss_name = training.loss_name;
  settings.identity = training.identity;
  settings.identity["connectivity"] = training.connectivity.describe();
  settings.identity["dtype"] = at::toString(training.model.dtype);

  std::error_code missing;
  if (training.model.directory &&
      std::filesystem::equivalent(o.out, *training.model.directory, missing))
    throw InputError(
        "--out: found the folder that the model or tokenizer is read from, expected another");
  train::RunDirectory directory(o.out, o.resume, training.grid.world);
  train::Trainer trainer(training.model, training.connectivity, training.task, loader,
                         validation ? &*validation : nullptr, directory, settings);
  if (o.resume) trainer.resume();
  const comm::Group& world = training.grid.world;
  const bool leads = world.rank() == 0;
  if (leads && world.size() > 1)
    std::cerr << "experts on " << training.grid.ep << " ranks, " << training.grid.dp
              << " times; optimizer state " << trainer.state_bytes() / 1048576 << " MiB on each of "
              << world.size() << " ranks\n";
  if (leads)
    std::cerr << training.connectivity.describe() << "; " << util::grouped(steps) << " steps of "
              << rows << " x " << sequence << " tokens from " << pieces.describe() << "\n";
  const train::TrainerResult result = trainer.run();
  forms::save(training.model, training.connectivity, o.out,
              {.team = {world.rank(), [&] { world.barrier("writing the model"); }}});
  if (leads)
    std::cerr << (result.stopped_early ? "stopped early" : "finished") << " after "
              << util::grouped(result.steps) << " steps"
              << (result.best ? util::concat(", best score ", *result.best) : std::string())
              << "; the model is in " << o.out << "\n";
}

}  // namespace farskip::app
