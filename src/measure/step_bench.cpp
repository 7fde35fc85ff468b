#include "measure/step_bench.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "comm/substitutes.h"
#include "measure/spans.h"
#include "schedule/forward.h"
#include "schedule/micro_batches.h"
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
  }

  StepFigures step(const Variant& variant, Timeline* timeline) {
    const auto& courier = variant.network ? grid_.courier : copies_;
    model::ExpertRanks ranks{.courier = courier,
                             .execution = variant.execution,
                             .wire = options_.wire,
                             .combine = options_.combine};
    // Where every message is waited for at once, several are only slower than one.
    if (variant.execution == model::Execution::overlapped && courier) {
      ranks.queue = std::make_shared<model::GradientQueue>(options_.queue_bytes);
      ranks.waves = options_.waves;
      if (options_.interleave && variant.network) ranks.turns = turns_;
    }
    model_.defer_gradients(ranks.queue);

    const int64_t depth = model_.config.depth();
    schedule::ForwardOptions forward{.connectivity = variant.converted
                                                         ? options_.converted
                                                         : model::Connectivity::regular(depth),
                                     .ranks = ranks};
    if (options_.routing != model::Routing::real)
      forward.choose = [&](int64_t layer, int64_t tokens, const model::RouterConfig& router) {
        return model::synthetic_experts(options_.routing, tokens, router,
                                        options_.seed + 1000003 * grid_.rank() + layer);
      };
    comm::MessageLog log;
    if (courier) {
      courier->record(&log);
      courier->take_peak_bytes();
    }
    grid_.world.barrier("benchmark");
    const auto start = Clock::now();
    std::vector<Pass> passes(options_.micro_batches);
    const auto turns = schedule::run_micro_batches(
        options_.micro_batches, ranks.turns.get(),
        [&](int64_t i) { return begin(passes[i], forward, timeline != nullptr); },
        [&](schedule::Ending& ending, int64_t i) { finish(passes[i], ending); });
    schedule::PartLog update;
    update.enter(schedule::Part::update, -1, true);  // what the queue still holds
    if (ranks.queue) ranks.queue->drain();
    update.leave();
    const auto end = Clock::now();
    if (courier) courier->record(nullptr);
    if (timeline)
      *timeline = {grid_.rank(), start, end, spans_of(passes, turns, update), log.messages};
    StepFigures own = figures(log, seconds(end - start), forward_time(passes, turns));
    own.queue_bytes = ranks.queue ? static_cast<double>(ranks.queue->take_peak_bytes()) : 0;
    own.flight_bytes = courier ? static_cast<double>(courier->take_peak_bytes()) : 0;
    return over_ranks(own);
  }

 private:
  using Times = std::vector<std::pair<Clock::time_point, Clock::time_point>>;

  /// Of one micro-batch.
  struct Pass {
    Times forward;
    schedule::PartLog parts;
    bool traced = false;
  };

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
                                                  const schedule::PartLog& update) {
    std::vector<schedule::PartSpan> found;
    for (size_t i = 0; i < passes.size(); ++i)
      for (schedule::PartSpan span : passes[i].parts.spans)
        for (const auto& [from, to] :
             own_time(span.begin, span.end, static_cast<int64_t>(i), turns)) {
          span.begin = from;
          span.end = to;
          found.push_back(span);
        }
    found.insert(found.end(), update.spans.begin(), update.spans.end());
    std::stable_sort(found.begin(), found.end(),
                     [](const auto& a, const auto& b) { return a.begin < b.begin; });
    return found;
  }

  static DirectionFigures direction(const comm::MessageLog& log, bool backward,
                                    std::map<int64_t, DirectionFigures>& by_layer) {
    DirectionFigures found;
    for (const comm::Message& message : log.messages) by_layer.try_emplace(message.name.layer);
    for (auto& [layer, figures] : by_layer) {
      const comm::Traffic traffic =
          comm::measure(log, [&, k = layer](const comm::Message& message) {
            return message.name.backward == backward && message.name.layer == k;
          });
      figures = {0, traffic.communication, traffic.exposed};
    }
    const comm::Traffic all = comm::measure(
        log, [&](const comm::Message& message) { return message.name.backward == backward; });
    found.communication = all.communication;
    found.exposed = all.exposed;
    return found;
  }

  static StepFigures figures(const comm::MessageLog& log, double time, double forward_time) {
    StepFigures found;
    found.time = time;
    found.forward = direction(log, false, found.forward_by_layer);
    found.backward = direction(log, true, found.backward_by_layer);
    found.forward.time = forward_time;
    found.backward.time = time - forward_time;
    for (const comm::Message& message : log.messages)
      found.megabytes += static_cast<double>(message.bytes) * 1e-6;
    return found;
  }

  /// Every figure of a step, in one order.
  static std::vector<double*> fields(StepFigures& figures) {
    std::vector<double*> found = {&figures.time, &figures.queue_bytes, &figures.flight_bytes,
                                  &figures.megabytes};
    const auto add = [&](DirectionFigures& one) {
      found.insert(found.end(), {&one.time, &one.communication, &one.exposed});
    };
    add(figures.forward);
    add(figures.backward);
    for (auto* by_layer : {&figures.forward_by_layer, &figures.backward_by_layer})
      for (auto& [layer, one] : *by_layer) add(one);
    return found;
  }

  /// Means over the ranks; of the first three the most.
  StepFigures over_ranks(StepFigures own) const {
    const auto mine = fields(own);
    std::vector<double> values;
    for (const double* field : mine) values.push_back(*field);
    const at::Tensor all =
        grid_.world.all_gather("figures", at::tensor(values, at::kDouble).unsqueeze(0)).wait();
    const at::Tensor most = all.amax(0), mean = all.mean(0);
    for (size_t i = 0; i < mine.size(); ++i)
      *mine[i] = (i < 3 ? most : mean)[static_cast<int64_t>(i)].item<double>();
    return own;
  }

  model::Model& model_;
  const comm::Grid& grid_;
  const StepBenchOptions& options_;
  at::Tensor tokens_, targets_;
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
  for (int64_t round = -options.warmup; round < options.rounds; ++round)
    for (VariantResult& result : results) {
      const StepFigures figures = bench.step(result.variant, nullptr);
      if (round >= 0) result.rounds.push_back(figures);
    }
  for (VariantResult& result : results)  // predicted_time() reads the parts of the bound
    if (options.traced || result.variant == bound_of({.converted = true}))
      bench.step(result.variant, &result.timeline);
  return results;
}

}  // namespace farskip::measure
