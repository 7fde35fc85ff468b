// distill: FarSkip-Collective self-distillation. The student has the teacher's weights and another
// connectivity.
#include <ATen/ATen.h>

#include "io/safetensors.h"
#include "options.h"
#include "ranks.h"
#include "text/codec.h"
#include "text/tables.h"
#include "train/task.h"
#include "training.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

using Loss = train::DistillationOptions::Loss;

struct Options {
  std::string model, loss = "kl", freeze, teacher_connectivity, save_gradients, tokens;
  double l2_weight = 0.1, temperature = 1;
  TrainingOptions training;
  RunOptions run;
};

train::DistillationOptions distillation(const CLI::App& verb, const Options& options) {
  train::DistillationOptions found;
  found.loss = options.loss == "kl"    ? Loss::kl
               : options.loss == "sft" ? Loss::cross_entropy
                                       : Loss::kl_and_l2;
  refuse_without(verb, "--l2-weight", found.loss == Loss::kl_and_l2, "--loss kl+l2");
  refuse_without(verb, "--temperature", found.loss != Loss::cross_entropy,
                 "--loss kl or --loss kl+l2");
  refuse_without(verb, "--tokens", !options.save_gradients.empty(), "--save-gradients FILE");
  found.l2_weight = options.l2_weight;
  found.temperature = options.temperature;
  return found;
}

/// All positions for the KL; those with a next token for the cross entropy.
train::Rows rows_of(const at::Tensor& tokens, Loss loss) {
  train::Rows rows{tokens, at::roll(tokens, -1, 1), at::ones_like(tokens, at::kBool)};
  if (loss == Loss::cross_entropy) rows.learn.select(1, tokens.size(1) - 1).fill_(false);
  return rows;
}

train::Rows first_batch(const Options& options, const model::ModelConfig& config, Loss loss) {
  const TrainingOptions& training = options.training;
  if (!options.tokens.empty()) return rows_of(read_tokens(options.tokens), loss);
  util::require(!training.data.empty(), "--save-gradients", "no batch",
                "--tokens FILE or --data FILE");
  const train::TextCodec codec = text::open_codec(
      options.model, &config, {training.ignored_keys.begin(), training.ignored_keys.end()});
  const train::Pieces pieces = text::open_pieces({training.data.begin(), training.data.end()});
  const int64_t sequence = sequence_length(training, config);
  return train::Loader(pieces, codec, batch_rows(training, sequence), sequence, training.seed)
      .next();
}

/// `loss` and every gradient of the first batch, float32, under the checkpoint's own names.
void save_gradients(const Options& options, train::Task& task, model::Model& student, Loss loss,
                    const Ranks& ranks) {
  const train::Rows rows = first_batch(options, student.config, loss);
  const auto count = rows.learn.sum().item<int64_t>();
  util::require(count > 0, "--save-gradients", "a batch without a token to learn",
                "responses that fit the sequence length");
  double value = 0;
  const comm::Group& world = ranks.grid.world;
  const auto total = static_cast<double>(rows.count());
  // As many passes on every rank; one that has no row left learns nothing from the first.
  for (int64_t turn = world.rank(); turn - world.rank() < rows.count(); turn += world.size()) {
    train::Rows row = rows.slice(turn < rows.count() ? turn : 0, 1);
    if (turn >= rows.count()) row.learn = at::zeros_like(row.learn);
    value += task.forward(row, 1.0 / static_cast<double>(count), 1 / total)->finish().loss;
  }
  if (student.weights.embedding.queue) student.weights.embedding.queue->drain();
  value = world.all_reduce("loss", at::full({1}, value, at::kDouble)).wait().item<double>();

  std::vector<std::pair<std::string, at::Tensor>> tensors;
  tensors.emplace_back("loss", at::scalar_tensor(value, at::kFloat));
  model::Weights names;
  const auto all = model::bind(names, student.config);
  const auto own = model::bind(student.weights, student.config, student.share);
  for (size_t i = 0; i < own.size(); ++i) {
    if (!own[i].parameter->trained()) continue;
    at::Tensor gradient = own[i].parameter->gradient;
    if (own[i].experts) {
      gradient = ranks.grid.expert_replicas.all_reduce(all[i].parameter->name, gradient).wait();
      gradient = world.all_gather(all[i].parameter->name, gradient).wait();
    } else {
      gradient = world.all_reduce(all[i].parameter->name, gradient).wait();
    }
    if (!ranks.leads()) continue;
    for (const model::Piece& piece : all[i].pieces)
      tensors.emplace_back(piece.name, all[i].view(gradient, piece).to(at::kFloat).contiguous());
  }
  if (ranks.leads()) io::write_safetensors(options.save_gradients, tensors);
}

void run(const CLI::App& verb, Options options) {
  options.run.apply();
  const train::DistillationOptions distilled = distillation(verb, options);
  if (options.save_gradients.empty()) {
    check_training_options(verb, options.training);
  } else {
    refuse_groups(verb, {"Learning", "Run"}, "--save-gradients", {"--batch-tokens"});
    if (!options.tokens.empty()) refuse_groups(verb, {"Data", "Learning"}, "--tokens");
  }

  const Ranks ranks = join(options.run, {checkpoint_fact(options.model), options_fact(verb)});
  const model::Model teacher =
      load(options.model, options.run, model::Residence::mapped, ranks.share, ranks.leads());
  const int64_t depth = teacher.config.depth();
  model::Connectivity theirs = teacher.config.connectivity;
  if (options.teacher_connectivity == "regular") theirs = model::Connectivity::regular(depth);
  if (options.run.connectivity.empty()) options.run.connectivity = "farskip";
  const model::Connectivity ours = options.run.resolve(teacher.config);
  if (distilled.loss != Loss::cross_entropy && ours.describe() == theirs.describe())
    throw InputError("--connectivity: found \"" + ours.describe() +
                     "\" for student and teacher, expected them to differ");

  model::Model student = teacher.trainable(options.freeze == "embeddings");
  const model::ExpertRanks experts = filling_gaps(verb, student, ranks, options.training);
  const auto task = train::distillation(
      teacher, {.connectivity = theirs, .ranks = experts}, student,
      {.connectivity = ours, .ranks = experts, .recompute = options.training.recompute}, distilled,
      ranks.grid.world);
  if (!options.save_gradients.empty())
    return save_gradients(options, *task, student, distilled.loss, ranks);
  const nlohmann::json identity{
      {"task", "distillation"},         {"loss", options.loss},
      {"l2_weight", options.l2_weight}, {"temperature", options.temperature},
      {"freeze", options.freeze},       {"teacher", theirs.describe()}};
  run_training(options.training,
               {student, ours, *task, options.model, "Distillation, " + ours.describe(),
                options.loss == "sft"  ? "cross entropy"
                : options.loss == "kl" ? "KL to the teacher"
                                       : "KL to the teacher + hidden L2",
                identity, ranks.grid, experts.turns});
}

}  // namespace

void add_distill(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand(
      "distill", "FCSD: convert a model to another connectivity and recover what that costs");
  const auto options = std::make_shared<Options>();
  options->training.learning_rate = 4e-5;
  add_model(verb, options->model);
  verb.add_option("--loss", options->loss,
                  "kl: tau^2 KL(teacher || student); sft: cross entropy of the text; kl+l2: and "
                  "the squared distance of the hidden states")
      ->check(CLI::IsMember({"kl", "sft", "kl+l2"}))
      ->capture_default_str();
  verb.add_option("--l2-weight", options->l2_weight, "Weight of that distance")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--temperature", options->temperature, "tau, of both softmaxes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--freeze", options->freeze, "embeddings: embedding and head stay as they are")
      ->check(CLI::IsMember({"embeddings"}));
  verb.add_option("--teacher-connectivity", options->teacher_connectivity,
                  "regular, whatever config.json says (default: what it says)")
      ->check(CLI::IsMember({"regular"}));
  verb.add_option("--save-gradients", options->save_gradients,
                  "Write loss and every gradient of the first batch (float32) and stop");
  verb.add_option("--tokens", options->tokens,
                  "That batch: a safetensors file with `tokens`, int64 [batch, length]");
  add_seed(verb, options->training.seed);
  add_training_options(verb, options->training);
  add_run_options(verb, options->run);
  examples(
      verb,
      {"farskip distill Moonlight-16B-A3B --data instruct.jsonl --out far --steps 5000 "
       "--batch-tokens 131072 --learning-rate 4e-5 --warmup 1000",
       "farskip distill Moonlight-16B-A3B --layers last:50% --data instruct.jsonl --validation "
       "held-out.jsonl --eval-every 500 --patience 20 --delta 0.02 --tokens-total 500000000 "
       "--checkpoint-every 500 --out far",
       "farskip distill Moonlight-16B-A3B --tokens in.safetensors --save-gradients "
       "gradients.safetensors"});
  verb.callback([&verb, options] { run(verb, *options); });
}

}  // namespace farskip::app
