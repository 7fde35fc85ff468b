#include "train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>

#include "schedule/micro_batches.h"
#include "util/error.h"
#include "util/progress.h"
#include "util/table.h"

namespace farskip::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What happens every so many steps, 0: never.
bool due(int64_t every, int64_t step) {
  return every > 0 && step % every == 0;
}

/// JSON has no infinity: null stands for what is not finite.
nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

/// Messages are recorded while it lives: those of a step, not those of an evaluation.
class RecordMessages {
 public:
  RecordMessages(comm::Courier* courier, GradientSync& sync, comm::MessageLog& log)
      : courier_(courier), sync_(sync) {
    record(&log);
  }
  ~RecordMessages() { record(nullptr); }
  RecordMessages(const RecordMessages&) = delete;
  RecordMessages& operator=(const RecordMessages&) = delete;

 private:
  void record(comm::MessageLog* log) {
    if (courier_) courier_->record(log);
    sync_.record(log);
  }
  comm::Courier* courier_;
  GradientSync& sync_;
};

}  // namespace

Trainer::Trainer(model::Model& model, const model::Connectivity& connectivity, Task& task,
                 Loader& loader, const Rows* validation, RunDirectory& directory,
                 TrainerOptions options)
    : model_(model),
      connectivity_(connectivity),
      task_(task),
      loader_(loader),
      validation_(validation),
      directory_(directory),
      options_(std::move(options)),
      sync_(model, options_.grid, options_.queue, options_.bucket_bytes),
      optimizer_(sync_.owned(), options_.adamw),
      stopping_(options_.patience, options_.delta, options_.higher_is_better) {
  util::require(loader.rows() % options_.grid.size() == 0, "--batch-tokens",
                util::concat(loader.rows(), " sequences"),
                util::concat("a multiple of the ", options_.grid.size(), " ranks"));
}

Trainer::StepFigures Trainer::train_step() {
  const RecordMessages recorded(options_.grid.courier.get(), sync_, messages_);
  Rows rows = loader_.next();
  StepFigures figures;
  // Data may have stretches without a token to learn, but not everywhere.
  for (int tried = 0; (figures.learnt = rows.learn.sum().item<int64_t>()) == 0; ++tried) {
    util::require(tried < 100, "data", "100 batches in a row without a token to learn",
                  "responses that fit the sequence length");
    rows = loader_.next();
  }
  const int64_t count = rows.count(), own = count / options_.grid.size();
  const Rows mine = rows.slice(options_.grid.rank() * own, own);
  bool finite = true;
  // To the end even if it is lost: the other ranks wait for this one's messages.
  const int64_t passes = (own + options_.micro_rows - 1) / options_.micro_rows;
  schedule::run_micro_batches(
      passes, options_.turns.get(),
      [&](int64_t i) {
        const int64_t begin = i * options_.micro_rows;
        const Rows micro = mine.slice(begin, std::min(options_.micro_rows, own - begin));
        return task_.forward(micro, 1.0 / static_cast<double>(figures.learnt),
                             static_cast<double>(micro.count()) / static_cast<double>(count));
      },
      [&](std::unique_ptr<Pass>& pass, int64_t i) {
        if (i + 1 == passes) sync_.begin();
        const MicroStep part = pass->finish();
        figures.loss += part.loss;
        figures.auxiliary += part.auxiliary;
        finite = finite && part.finite;
      });
  sync_.reduce();
  add_up(figures, finite);
  figures.norm = finite ? sync_.norm(optimizer_) : std::nan("");
  figures.updated = std::isfinite(figures.norm);
  if (figures.updated) {
    const bool clipped = options_.clip > 0 && figures.norm > options_.clip;
    sync_.update(optimizer_, options_.rate.at(step_), clipped ? options_.clip / figures.norm : 1);
    if (looked_at(step_ + 1)) sync_.settle();
  } else {
    sync_.zero_gradients();
  }
  task_.after_step(figures.updated);
  tokens_ += rows.tokens.numel();
  ++step_;
  return figures;
}

bool Trainer::looked_at(int64_t step) const {
  return step == options_.rate.steps || (evaluates() && due(options_.eval_every, step)) ||
         due(options_.checkpoint_every, step);
}

void Trainer::add_up(StepFigures& figures, bool& finite) const {
  const at::Tensor own =
      at::tensor({figures.loss, figures.auxiliary, finite ? 0.0 : 1.0}, at::kDouble);
  const at::Tensor sum = options_.grid.world.all_reduce("loss", own).wait();
  figures.loss = sum[0].item<double>();
  figures.auxiliary = sum[1].item<double>();
  finite = sum[2].item<double>() == 0;
}

void Trainer::record_messages(nlohmann::ordered_json& record) {
  using Part = comm::MessageName::Part;
  const auto add = [&](const char* name, const auto& counts) {
    const comm::Traffic traffic = comm::measure(
        messages_, [&](const comm::Message& message) { return counts(message.name); });
    if (traffic.messages == 0) return;
    record[name] = {{"messages", traffic.messages},
                    {"bytes", traffic.bytes},
                    {"communication_ms", 1e3 * traffic.communication},
                    {"hidden", traffic.hidden()},
                    {"exposed_ms", 1e3 * traffic.exposed}};
  };
  add("experts_forward", [](const auto& name) { return name.of_experts() && !name.backward; });
  add("experts_backward", [](const auto& name) { return name.of_experts() && name.backward; });
  add("gradients", [](const auto& name) { return name.part == Part::gradients; });
  add("weights", [](const auto& name) { return name.part == Part::weights; });
  if (record.contains("gradients")) record["gradients"]["early_messages"] = sync_.early();
  messages_.messages.clear();
  if (options_.grid.size() > 1) record["reduction_bytes"] = sync_.peak_bytes();
  if (options_.grid.courier) record["message_bytes"] = options_.grid.courier->take_peak_bytes();
  if (options_.queue) record["gradient_queue_bytes"] = options_.queue->take_peak_bytes();
}

bool Trainer::evaluate(util::Progress& progress) {
  nlohmann::ordered_json record{{"step", step_}};
  std::string line = util::concat("step ", step_, ":");
  double score = 0;
  if (validation_) {
    const Validation found = task_.validate(*validation_);
    score = found.loss;
    record["validation_loss"] = number(found.loss);
    line += " validation loss " + util::fixed(found.loss, 4);
    const Evaluation& figures = found.figures;
    record["validation_cross_entropy"] = number(figures.loss);
    if (figures.kl) {
      record["validation_kl"] = number(*figures.kl);
      record["validation_agreement"] = *figures.top1_agreement;
      line += ", top-1 agreement " + util::fixed(100 * *figures.top1_agreement, 1) + " %";
    }
    for (const auto& [layer, share] : figures.router_agreement)
      record["router_agreement"].push_back(share);
    if (!figures.router_agreement.empty())
      line += ", router agreement " + util::fixed(100 * figures.mean_router_agreement(), 1) + " %";
  }
  if (!options_.eval_command.empty()) {
    const auto folder = directory_.begin(step_);
    write_model(folder);
    begun_ = true;
    score = command_score(folder);
    record["score"] = number(score);
    line += util::concat(" score ", score);
  }
  const bool better = stopping_.update(score);
  record["best"] = better;
  if (leads()) metrics_->append(record);
  progress.say(line + (better ? " (best)" : ""));
  return better;
}

TrainerResult Trainer::run() {
  if (leads()) metrics_.emplace(directory_.metrics_file(), step_);
  const int64_t last = options_.rate.steps, first = step_;
  TrainerResult result;
  util::Progress progress("step", last, leads());
  progress.begin_at(first);
  const double flops = task_.flops_per_token();
  while (step_ < last && !stopping_.stop()) {
    const auto start = Clock::now();
    const int64_t tokens_before = tokens_;
    const double rate = options_.rate.at(step_);
    const StepFigures figures = train_step();
    const double seconds = seconds_since(start);
    const double speed = static_cast<double>(tokens_ - tokens_before) / seconds;
    result.loss = figures.loss;
    nlohmann::ordered_json record{{"step", step_},
                                  {"loss", number(figures.loss)},
                                  {"learning_rate", rate},
                                  {"gradient_norm", number(figures.norm)},
                                  {"tokens", tokens_},
                                  {"learnt", figures.learnt},
                                  {"epoch", loader_.epoch()},
                                  {"seconds", seconds},
                                  {"tokens_per_second", speed}};
    if (figures.auxiliary != 0) record["balance_loss"] = number(figures.auxiliary);
    if (!figures.updated) record["skipped"] = true;
    record_messages(record);
    if (leads()) metrics_->append(record);
    skipped_ = figures.updated ? 0 : skipped_ + 1;
    if (!figures.updated)
      progress.say(util::concat("step ", step_,
                                ": loss or gradient is not finite, the step is skipped (", skipped_,
                                " in a row)"));
    if (skipped_ >= options_.max_skipped)
      throw Error(util::concat("training: found ", skipped_,
                               " steps in a row whose loss or gradient is not finite, expected "
                               "fewer than ",
                               options_.max_skipped, " (a lower --learning-rate may help)"));
    progress.update(step_, util::concat("loss ", util::fixed(figures.loss, 4), ", ",
                                        util::grouped(static_cast<int64_t>(speed)), " tokens/s, ",
                                        util::fixed(flops * speed * 1e-9, 1), " GFLOP/s"));

    const bool end = step_ == last;
    bool better = false;
    if (due(options_.eval_every, step_) || end) {
      if (evaluates()) better = evaluate(progress);
      if (leads()) metrics_->draw(directory_.plot_file(), options_.title, options_.loss_name);
    }
    const bool chosen = better && (options_.patience > 0 || !options_.eval_command.empty());
    if (chosen || due(options_.checkpoint_every, step_) || end || stopping_.stop())
      save(chosen);
    else if (begun_)
      directory_.discard(step_);
    begun_ = false;
  }
  progress.finish();
  result.steps = step_;
  result.best = stopping_.best();
  result.stopped_early = stopping_.stop() && step_ < last;
  const auto best = directory_.best();
  if (best && best != directory_.latest()) load_weights(*best);
  return result;
}

}  // namespace farskip::train
