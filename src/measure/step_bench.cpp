#include "measure/step_bench.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "comm/substitutes.h"
#include "measure/spans.h"
#include "schedule/forward.h"
#include "schedule/micro_batches.h"
#include "train/gradient_sync.h"
#include "train/loss.h"

namespace farskip::measure {
namespace {

using comm::Clock;

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// Runs the steps of one rank.
class Bench {
 public:
  Bench(model::Model& model, const comm::Grid& grid, const StepBenchOptions& options)
      : model_(model), grid_(grid), options_(options) {
    const auto generator = at::detail::createCPUGenerator(options.seed + grid.rank());
    tokens_ = at::randint(0, model.config.vocabulary, {options.batch, options.sequence}, generator,
                          at::TensorOptions(at::kLong))
                  .to(model.device);
    targets_ = at::roll(tokens_, -1, 1).flatten();
    const comm::Group nobody = comm::without_network(grid.rank() % grid.ep, grid.ep);
    if (grid.ep > 1) copies_ = std::make_shared<comm::Courier>(nobody, nobody);
    if (options.update != Update::none)
      optimizer_.emplace(train::GradientSync(model, grid).owned(), train::AdamWOptions());
  }

  StepFigures step(const Variant& variant, int64_t micro_batches, Timeline* timeline) {
    const auto& courier = variant.network ? grid_.courier : copies_;
    const bool exchanged = options_.update == Update::all && variant.network;
    const model::ExpertRanks ranks = expert_ranks(variant, courier, exchanged);
    model_.defer_gradients(ranks.queue);
    std::optional<train::GradientSync> sync;
    if (optimizer_)
      sync.emplace(model_, grid_, ranks.queue, train::kBucketBytes, /*messages=*/exchanged);
    const schedule::ForwardOptions forward = forward_options(variant, ranks);
    comm::MessageLog log;
    if (courier) {
      courier->record(&log);
      courier->take_peak_bytes();
    }
    if (sync) sync->record(&log);
    grid_.world.barrier("benchmark");
    const auto start = Clock::now();
    schedule::PartLog rest;  // what is of no micro-batch
    if (sync) {
      rest.enter(schedule::Part::optimizer, -1);
      sync->update(*optimizer_, /*learning_rate=*/0, /*gradient_scale=*/1);
      rest.leave();
    }
    std::vector<Pass> passes(micro_batches);
    const auto turns = schedule::run_micro_batches(
        micro_batches, ranks.turns.get(),
        [&](int64_t i) { return begin(passes[i], forward, timeline != nullptr); },
        [&](schedule::Ending& ending, int64_t i) {
          if (sync && i + 1 == micro_batches) sync->begin();
          finish(passes[i], ending);
        });
    rest.enter(schedule::Part::weight_gradients, -1, true);
    if (sync) {
      sync->reduce();
      rest.enter(schedule::Part::optimizer, -1);
      sync->norm(*optimizer_);
    } else if (ranks.queue) {
      ranks.queue->drain();
    }
    rest.leave();
    const auto end = Clock::now();
    if (courier) courier->record(nullptr);
    if (timeline)
      *timeline = {grid_.rank(), start, end, spans_of(passes, turns, rest), log.messages};
    StepFigures own = step_figures(log, seconds(end - start), forward_time(passes, turns));
    own.queue_bytes = ranks.queue ? static_cast<double>(ranks.queue->take_peak_bytes()) : 0;
    own.flight_bytes = courier ? static_cast<double>(courier->take_peak_bytes()) : 0;
    return over_ranks(own, grid_.world);
  }

 private:
  using Times = std::vector<std::pair<Clock::time_point, Clock::time_point>>;

  /// Of one micro-batch.
  struct Pass {
    Times forward;
    schedule::PartLog parts;
    bool traced = false;
  };

  model::ExpertRanks expert_ranks(const Variant& variant,
                                  const std::shared_ptr<comm::Courier>& courier,
                                  bool exchanged) const {
    model::ExpertRanks ranks{.courier = courier,
                             .execution = variant.execution,
                             .wire = options_.wire,
                             .combine = options_.combine};
    if (variant.execution == model::Execution::blocking || !(courier || exchanged)) return ranks;
    ranks.queue = std::make_shared<model::GradientQueue>(courier ? options_.queue_bytes : 0);
    // Where every message is waited for at once, several are only slower than one.
    if (courier) ranks.waves = options_.waves;
    if (options_.interleave && variant.network) ranks.turns = turns_;
    return ranks;
  }

  schedule::ForwardOptions forward_options(const Variant& variant,
                                           const model::ExpertRanks& ranks) const {
    schedule::ForwardOptions forward{
        .connectivity = variant.converted ? options_.converted
                                          : model::Connectivity::regular(model_.config.depth()),
        .ranks = ranks};
    if (options_.routing != model::Routing::real)
      forward.choose = [&](int64_t layer, int64_t tokens, const model::RouterConfig& router) {
        return model::synthetic_experts(options_.routing, tokens, router,
                                        options_.seed + 1000003 * grid_.rank() + layer);
      };
    return forward;
  }

  schedule::Ending begin(Pass& pass, schedule::ForwardOptions options, bool traced) {
    pass.traced = traced;
    if (traced) options.parts = &pass.parts;
    const auto mark = Clock::now();
    schedule::Ending ending =
        schedule::begin_forward(model_, model::Batch::whole(tokens_), options);
    pass.forward.emplace_back(mark, Clock::now());
    pass.parts.leave();
    return ending;
  }

  /// Loss and backward pass.
  void finish(Pass& pass, schedule::Ending& ending) {
    const double weight = 1.0 / static_cast<double>(tokens_.numel());
    if (pass.traced) pass.parts.enter(schedule::Part::head, -1);
    for (int64_t c = 0; c < ending.chunks(); ++c) {
      const auto mark = Clock::now();
      const at::Tensor hidden = ending.hidden(c);
      pass.forward.emplace_back(mark, Clock::now());
      const auto loss =
          train::head_loss({.hidden = hidden,
                            .head = model_.weights.head.value,
                            .targets = targets_.narrow(0, ending.begin(c), hidden.size(0)),
                            .halfway = [&] { ending.pause(c); }},
                           model_.weights.head, train::Objective::cross_entropy, weight);
      ending.gradient(c, loss.grad_hidden);
    }
    pass.parts.leave();
    ending.backward();
    pass.parts.leave();
  }

  /// Seconds that forward passes took, without the turns of backward passes beside them.
  static double forward_time(const std::vector<Pass>& passes,
                             const std::vector<model::Turns::Turn>& turns) {
    double sum = 0;
    for (size_t i = 0; i < passes.size(); ++i)
      for (const auto& [begin, end] : passes[i].forward)
        for (const auto& [from, to] : own_time(begin, end, static_cast<int64_t>(i), turns))
          sum += seconds(to - from);
    return sum;
  }

  /// In order of time, cut where micro-batches take turns.
  static std::vector<schedule::PartSpan> spans_of(const std::vector<Pass>& passes,
                                                  const std::vector<model::Turns::Turn>& turns,
                                                  const schedule::PartLog& rest) {
    std::vector<schedule::PartSpan> found;
    for (size_t i = 0; i < passes.size(); ++i)
      for (schedule::PartSpan span : passes[i].parts.spans)
        for (const auto& [from, to] :
             own_time(span.begin, span.end, static_cast<int64_t>(i), turns)) {
          span.begin = from;
          span.end = to;
          found.push_back(span);
        }
    found.insert(found.end(), rest.spans.begin(), rest.spans.end());
    std::stable_sort(found.begin(), found.end(),
                     [](const auto& a, const auto& b) { return a.begin < b.begin; });
    return found;
  }

  model::Model& model_;
  const comm::Grid& grid_;
  const StepBenchOptions& options_;
  at::Tensor tokens_, targets_;
  std::optional<train::AdamW> optimizer_;  ///< none with Update::none
  std::shared_ptr<comm::Courier> copies_;
  std::shared_ptr<model::Turns> turns_ = std::make_shared<model::Turns>();
};

}  // namespace

std::vector<VariantResult> bench_steps(model::Model& model, const comm::Grid& grid,
                                       const std::vector<Variant>& variants,
                                       const StepBenchOptions& options) {
  Bench bench(model, grid, options);
  std::vector<VariantResult> results;
  for (const Variant& variant : variants) results.push_back({variant, {}, {}});
  // Two micro-batches touch all the memory that more of them do.
  for (int64_t round = 0; round < options.warmup; ++round)
    for (const VariantResult& result : results)
      bench.step(result.variant, std::min<int64_t>(2, options.micro_batches), nullptr);
  for (int64_t round = 0; round < options.rounds; ++round)
    for (VariantResult& result : results)
      result.rounds.push_back(bench.step(result.variant, options.micro_batches, nullptr));
  for (VariantResult& result : results)  // predicted_time() reads the parts of the bound
    if (options.traced || result.variant == bound_of({.converted = true}))
      bench.step(result.variant, options.micro_batches, &result.timeline);
  return results;
}

}  // namespace farskip::measure
