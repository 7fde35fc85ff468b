#include "measure/token_bench.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/InferenceMode.h>

#include <set>

#include "comm/substitutes.h"
#include "schedule/forward.h"
#include "schedule/head.h"

namespace farskip::measure {
namespace {

using comm::Clock;

constexpr int64_t kPageTokens = 64;

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// Runs the passes of one rank.
class Bench {
 public:
  Bench(const model::Model& model, const model::ExpertRanks& ranks, const comm::Group& world,
        const TokenBenchOptions& options)
      : model_(model),
        ranks_(ranks),
        world_(world),
        options_(options),
        pages_((options.prompt + options.decode_steps + kPageTokens - 1) / kPageTokens),
        cache_(model.config, options.batch * pages_, kPageTokens,
               at::TensorOptions(model.dtype).device(model.device)) {
    if (ranks.courier) {
      const comm::Group nobody = comm::without_network(ranks.rank(), ranks.size());
      copies_.courier = std::make_shared<comm::Courier>(nobody, nobody);
    }
    if (ranks.reducer)
      copies_.reducer = std::make_shared<comm::Reducer>(
          comm::without_network(ranks.reducer->group().rank(), ranks.reducer->group().size()));
    // Decoding reads what no prefill has written: zeros take the time of any other numbers.
    for (int64_t k = 0; k < model.config.depth(); ++k) {
      cache_.layer(k).keys.zero_();
      cache_.layer(k).values.zero_();
    }
    seed_ = options.seed + (ranks.reducer ? 0 : 1000003 * world.rank());
  }

  TokenFigures pass(const Variant& variant) {
    const model::ExpertRanks ranks = ranks_of(variant);
    comm::MessageLog log;
    record(ranks, &log);
    world_.barrier("benchmark");
    const auto start = Clock::now();
    for (int64_t i = 0; i < std::max<int64_t>(1, options_.decode_steps); ++i)
      step(variant, ranks, i, nullptr);
    const double time = seconds(Clock::now() - start);
    record(ranks, nullptr);
    return over_ranks(log, time);
  }

  /// The prefill, or the first step after it.
  Timeline trace(const Variant& variant) {
    const model::ExpertRanks ranks = ranks_of(variant);
    comm::MessageLog log;
    schedule::PartLog parts;
    record(ranks, &log);
    world_.barrier("benchmark");
    const auto start = Clock::now();
    step(variant, ranks, 0, &parts);
    parts.leave();
    const auto end = Clock::now();
    record(ranks, nullptr);
    return {world_.rank(), start, end, parts.spans, log.messages};
  }

 private:
  model::ExpertRanks ranks_of(const Variant& variant) const {
    model::ExpertRanks ranks = ranks_;
    if (!variant.network) {
      ranks.courier = copies_.courier;
      ranks.reducer = copies_.reducer;
    }
    ranks.execution = variant.execution;
    // Where every message is waited for at once, several are only slower than one.
    if (variant.execution == model::Execution::blocking) ranks.waves = 1;
    return ranks;
  }

  static void record(const model::ExpertRanks& ranks, comm::MessageLog* log) {
    if (ranks.courier) ranks.courier->record(log);
    if (ranks.reducer) ranks.reducer->record(log);
  }

  model::Batch batch(int64_t past, int64_t count) const {
    const auto generator = at::detail::createCPUGenerator(seed_ + past);
    const at::Tensor tokens = at::randint(0, model_.whole.vocabulary, {options_.batch, count},
                                          generator, at::TensorOptions(at::kLong));
    std::vector<std::vector<int64_t>> rows;
    for (int64_t b = 0; b < options_.batch; ++b) {
      const auto* row = tokens[b].const_data_ptr<int64_t>();
      rows.emplace_back(row, row + count);
    }
    auto batch =
        model::Batch::rows(rows, std::vector<int64_t>(options_.batch, past), model_.device);
    for (int64_t b = 0; b < options_.batch; ++b) {
      batch.segments[b].pages.resize(pages_);
      for (int64_t i = 0; i < pages_; ++i) batch.segments[b].pages[i] = b * pages_ + i;
    }
    return batch;
  }

  /// The prefill or the i-th step after it: a pass up to the choice of every sequence's next token.
  void step(const Variant& variant, const model::ExpertRanks& ranks, int64_t i,
            schedule::PartLog* parts) {
    const c10::InferenceMode inference;
    const bool decodes = options_.decode_steps > 0;
    const int64_t past = decodes ? options_.prompt + i : 0, count = decodes ? 1 : options_.prompt;
    schedule::ForwardOptions forward{
        .connectivity = variant.converted ? options_.converted
                                          : model::Connectivity::regular(model_.config.depth()),
        .ranks = ranks,
        .cache = &cache_,
        .parts = parts};
    if (count > 1) {
      forward.rows = at::arange(count - 1, options_.batch * count, count,
                                at::TensorOptions(at::kLong).device(model_.device));
    }
    if (options_.routing != model::Routing::real)
      forward.choose = [&](int64_t layer, int64_t tokens, const model::RouterConfig& router) {
        return model::synthetic_experts(options_.routing, tokens, router, seed_ + past + layer);
      };
    const at::Tensor hidden = schedule::forward(model_, batch(past, count), forward);
    if (parts) parts->enter(schedule::Part::head, /*layer=*/-1);
    schedule::best_tokens(model_, hidden, ranks);
  }

  TokenFigures over_ranks(const comm::MessageLog& log, double time) const {
    TokenFigures figures;
    std::vector<double> own = {time};
    const auto add = [&](const auto& counts) {
      const comm::Traffic traffic = comm::measure(log, counts);
      own.insert(own.end(), {traffic.communication, traffic.exposed,
                             static_cast<double>(traffic.bytes) * 1e-6});
    };
    add([](const comm::Message&) { return true; });
    std::set<std::string> seen;
    for (const comm::Message& message : log.messages)
      if (seen.insert(message.name.describe()).second) {
        figures.messages.push_back({message.name});
        add([&](const comm::Message& other) { return other.name == message.name; });
      }
    const double steps = static_cast<double>(std::max<int64_t>(1, options_.decode_steps));
    const at::Tensor all =
        world_.all_gather("figures", (at::tensor(own, at::kDouble) / steps).unsqueeze(0)).wait();
    const at::Tensor mean = all.mean(0);
    size_t next = 1;
    const auto take = [&](double& communication, double& exposed) {
      communication = mean[next++].item<double>();
      exposed = mean[next++].item<double>();
      return mean[next++].item<double>();
    };
    figures.time = all.amax(0)[0].item<double>();
    figures.megabytes = take(figures.communication, figures.exposed);
    const auto slowest = all.select(1, 2).argmin().item<int64_t>();
    figures.slowest_communication = all[slowest][1].item<double>();
    figures.slowest_exposed = all[slowest][2].item<double>();
    for (MessageFigures& one : figures.messages) take(one.communication, one.exposed);
    return figures;
  }

  const model::Model& model_;
  const model::ExpertRanks& ranks_;
  const comm::Group& world_;
  const TokenBenchOptions& options_;
  int64_t pages_;
  model::KvCache cache_;
  model::ExpertRanks copies_;
  uint64_t seed_;
};

}  // namespace

std::vector<TokenResult> bench_tokens(const model::Model& model, const model::ExpertRanks& ranks,
                                      const comm::Group& world,
                                      const std::vector<Variant>& variants,
                                      const TokenBenchOptions& options) {
  Bench bench(model, ranks, world, options);
  std::vector<TokenResult> results;
  for (const Variant& variant : variants) results.push_back({variant, {}});
  for (int64_t round = -options.warmup; round < options.rounds; ++round)
    for (TokenResult& result : results) {
      const TokenFigures figures = bench.pass(result.variant);
      if (round >= 0) result.rounds.push_back(figures);
    }
  for (TokenResult& result : results)  // windows() reads the parts of the bound
    if (options.traced ||
        (options.decode_steps == 0 && result.variant == bound_of({.converted = true})))
      result.timeline = bench.trace(result.variant);
  return results;
}

}  // namespace farskip::measure
