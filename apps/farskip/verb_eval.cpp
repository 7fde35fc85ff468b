// eval: loss and perplexity on text, and the distance from another model.
#include <cmath>
#include <iostream>
#include <limits>

#include "io/json_file.h"
#include "options.h"
#include "ranks.h"
#include "text/codec.h"
#include "text/tables.h"
#include "train/evaluate.h"
#include "util/error.h"
#include "util/progress.h"
#include "util/table.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string model, teacher, teacher_connectivity;
  std::vector<std::string> data, ignored_keys;
  int64_t sequence = 0, max_tokens = 0, batch = 4;
  bool json = false;
  RunOptions run;
};

io::Json describe(const train::Evaluation& found) {
  io::Json json = {{"tokens", found.tokens},
                   {"loss", found.loss},
                   {"perplexity", found.perplexity()},
                   {"accuracy", found.accuracy}};
  if (!found.kl) return json;
  json["kl"] = *found.kl;
  json["top1_agreement"] = *found.top1_agreement;
  json["router_agreement"] = found.mean_router_agreement();
  for (const auto& [layer, share] : found.router_agreement)
    json["router_agreement_by_layer"][std::to_string(layer)] = share;
  return json;
}

void print(const train::Evaluation& found) {
  util::Table table({"measure", "value"});
  table.add({"positions", util::grouped(found.tokens)});
  table.add({"loss (nats a token)", util::fixed(found.loss, 4)});
  table.add({"perplexity", util::fixed(found.perplexity(), 3)});
  table.add({"accuracy", util::fixed(found.accuracy, 4)});
  if (found.kl) {
    table.add({"KL(teacher || model)", util::fixed(*found.kl, 4)});
    table.add({"top-1 agreement", util::fixed(*found.top1_agreement, 4)});
    table.add({"router agreement", util::fixed(found.mean_router_agreement(), 4)});
    for (const auto& [layer, share] : found.router_agreement)
      table.add({util::concat("  layer ", layer), util::fixed(share, 4)});
  }
  std::cout << table.text();
}

void run(Options options) {
  options.run.apply();
  if (options.teacher.empty() && !options.teacher_connectivity.empty())
    throw InputError("--teacher-connectivity: found it without --teacher, expected both");
  std::vector<Fact> facts{checkpoint_fact(options.model)};
  if (!options.teacher.empty()) facts.push_back(checkpoint_fact(options.teacher));
  Ranks ranks = join(options.run, facts, Layouts::either);
  // Figures are taken from hidden states by chunks, with all rows of the head.
  ranks.share.embedding = ranks.share.head = {};
  const auto residence = model::Residence::mapped;
  const model::Model model =
      load(options.model, options.run, residence, ranks.share, ranks.leads());
  std::optional<model::Model> other;
  if (!options.teacher.empty())
    other = load(options.teacher, options.run, residence, ranks.share, ranks.leads());

  const int64_t sequence =
      options.sequence ? options.sequence : std::min<int64_t>(2048, model.config.max_positions);
  const train::TextCodec codec = text::open_codec(
      options.model, &model.config, {options.ignored_keys.begin(), options.ignored_keys.end()});
  const train::Pieces pieces = text::open_pieces({options.data.begin(), options.data.end()});
  const train::Rows rows = train::first_rows(
      pieces, codec, sequence,
      options.max_tokens ? options.max_tokens : std::numeric_limits<int64_t>::max());

  const train::Subject subject{
      model, {.connectivity = options.run.resolve(model.config), .ranks = ranks.experts}};
  std::optional<train::Subject> teacher;
  if (other) {
    const auto theirs = options.teacher_connectivity == "regular"
                            ? model::Connectivity::regular(other->config.depth())
                            : other->config.connectivity;
    teacher.emplace(train::Subject{*other, {.connectivity = theirs, .ranks = ranks.experts}});
  }
  util::Progress progress("evaluating", rows.count(), ranks.leads());
  train::EvaluateOptions settings;
  settings.rows_at_once = options.batch;
  if (!ranks.replicated()) settings.world = ranks.grid.world;
  settings.on_part = [&, done = int64_t{0}](const train::Rows& part) mutable {
    done += part.count() * settings.world.size();
    progress.update(std::min(done, rows.count()));
  };
  const auto found = train::evaluate(subject, teacher ? &*teacher : nullptr, rows, settings);
  progress.finish();
  for (const double figure : {found.loss, found.kl.value_or(0)})
    if (!std::isfinite(figure))
      throw Error(util::concat(options.data.front(), ": found a loss of ", figure,
                               ", expected a finite one (the model computes NaN or infinity)"));
  if (!ranks.leads()) return;
  if (options.json) {
    std::cout << describe(found).dump() << "\n";
  } else {
    print(found);
  }
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("eval", "Loss on text, and the distance from another model");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  verb.add_option("--data", options->data,
                  "Files as for training: text, or rows of .jsonl, .json, .parquet or .arrow")
      ->required();
  add_ignored_keys(verb, options->ignored_keys);
  takes_model(
      verb.add_option("--teacher", options->teacher,
                      "Another model: also KL, top-1 agreement and router agreement with it"));
  verb.add_option("--teacher-connectivity", options->teacher_connectivity,
                  "regular, whatever its config.json says (default: what it says)")
      ->check(CLI::IsMember({"regular"}));
  verb.add_option("--sequence", options->sequence,
                  "Tokens of a row (default: 2048, or what the model takes); the last row, and one "
                  "of less text, is as long as its text")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24));
  verb.add_option("--max-tokens", options->max_tokens,
                  "Positions of the data that are read (default: all)")
      ->check(CLI::PositiveNumber);
  verb.add_option("--batch", options->batch, "Rows at once")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  add_json(verb, options->json);
  add_run_options(verb, options->run);
  examples(verb, {"farskip eval model --data held-out.txt",
                  "farskip eval far --data held-out.txt --teacher model --json",
                  "farskip eval model --connectivity farskip --teacher model "
                  "--teacher-connectivity regular --data held-out.txt"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
