#include "model/moe.h"

#include <ATen/ATen.h>

#include <iterator>
#include <numeric>

#include "kernels/grouped_linear.h"
#include "kernels/small_experts.h"
#include "kernels/small_linear.h"
#include "model/differentiable.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

kernels::Accumulate accumulation(const MoeConfig& config) {
  return config.router.in_model_dtype ? kernels::Accumulate::kDtype : kernels::Accumulate::kOpmath;
}

/// Of every wave: its messages, and the launch of the first.
void launch(Dispatched& sent, const MoeConfig& config, const DispatchOptions& options) {
  const int64_t tokens = sent.h.size(0), waves = options.wave < 0 ? options.waves() : 1;
  std::vector<int64_t> counts;
  for (int64_t w = 0; w < waves; ++w) counts.push_back(Fraction{w, waves}.size(tokens));
  const auto parts = [&](const at::Tensor& x) {
    return waves == 1 ? std::vector<at::Tensor>{x} : x.split_with_sizes(counts);
  };
  const auto rows = parts(sent.h), weights = parts(sent.routes.weights),
             experts = parts(sent.routes.experts);
  sent.exchanges = options.again;
  for (int64_t w = 0; w < waves; ++w) {
    if (options.again.empty())
      sent.exchanges.push_back(std::make_shared<ExpertExchange>(
          options.ranks, options.layer, std::max<int64_t>(options.wave, w),
          Routes{experts[w], weights[w]}, config.router.experts, sent.h.size(1),
          sent.h.scalar_type(), options.chunks, options.kept));
    sent.tickets.push_back(sent.exchanges[w]->send(rows[w], weights[w]));
  }
}

/// The same where all tokens go to all ranks.
void launch_gather(Dispatched& sent, const DispatchOptions& options) {
  const comm::Splits& counts = options.counts;
  const int64_t waves = options.waves(), own = options.ranks.rank();
  const int64_t from = std::max<int64_t>(options.wave, 0);
  for (int64_t w = from; w < (options.wave < 0 ? waves : from + 1); ++w) {
    const Fraction wave{w, waves};
    comm::Splits part;
    for (const int64_t tokens : counts) part.push_back(wave.size(tokens));
    const int64_t first = wave.begin(counts[own]) - Fraction{from, waves}.begin(counts[own]);
    const int64_t count = part[own];
    sent.gathers.push_back(std::make_shared<TokenGather>(options.ranks, options.layer,
                                                         waves > 1 ? w : -1, std::move(part)));
    sent.gathers.back()->send(sent.h.narrow(0, first, count),
                              {.experts = sent.routes.experts.narrow(0, first, count),
                               .weights = sent.routes.weights.narrow(0, first, count),
                               .scores = {}});
  }
}

/// What down projections read: rows [P, hidden] in the plan's order -> [P, width].
at::Tensor inner(const at::Tensor& rows, const kernels::Plan& plan, const MoeWeights& weights) {
  return swiglu(grouped_linear(rows, plan, weights.gate_up));
}

/// Finds this rank's pairs of tokens that are all here.
void plan(Dispatched& sent, const MoeWeights& weights, const MoeConfig& config) {
  const int64_t experts = config.router.experts;
  if (!needs_graph(sent.h, weights.gate_up.value) &&
      kernels::small_linear_supported(sent.h, weights.gate_up.value[0]))
    return;
  sent.plan = sent.own.count == 1 ? kernels::plan(sent.routes.experts, experts)
                                  : kernels::plan_of(sent.routes.experts, sent.own.begin(experts),
                                                     sent.own.size(experts));
  sent.rows = gather_rows(sent.h, *sent.plan);
}

}  // namespace

int64_t DispatchOptions::waves() const {
  if (!ranks.gathers()) return ranks.waves;
  return ranks.waves_of(std::accumulate(counts.begin(), counts.end(), int64_t{0}), ranks.waves);
}

void Dispatched::append(Dispatched next) {
  const auto move_all = [](auto& from, auto& to) {
    std::move(from.begin(), from.end(), std::back_inserter(to));
  };
  own = next.own;
  move_all(next.exchanges, exchanges);
  move_all(next.tickets, tickets);
  move_all(next.gathers, gathers);
}

bool Dispatched::arrived(int64_t wave) const {
  if (!gathers.empty()) return gathers[wave]->arrived();
  return exchanges.empty() || exchanges[wave]->arrived();
}

at::Tensor mlp(const at::Tensor& x, const MlpWeights& weights) {
  return linear(swiglu(linear(x, weights.gate_up, {})), weights.down, {});
}

Dispatched dispatch(const at::Tensor& h, const MoeWeights& weights, const MoeConfig& config,
                    const DispatchOptions& options) {
  Dispatched sent;
  sent.h = sent.all = h;
  sent.routes = route(h, weights.router, weights.correction, config.router, options.chosen);
  sent.own = options.own;
  if (options.ranks.gathers())
    launch_gather(sent, options);
  else if (options.ranks.size() > 1)
    launch(sent, config, options);
  else
    plan(sent, weights, config);
  return sent;
}

Dispatched gathered(const Dispatched& sent, int64_t wave, const MoeWeights& weights,
                    const MoeConfig& config) {
  auto [h, routes] = sent.gathers[wave]->receive();
  Dispatched here;
  here.h = std::move(h);
  here.routes = std::move(routes);
  here.own = sent.own;
  plan(here, weights, config);
  return here;
}

at::Tensor experts(const Dispatched& sent, int64_t wave, const MoeWeights& weights,
                   const MoeConfig& config) {
  const bool alone = sent.exchanges.empty();
  if (alone && !sent.plan)
    return kernels::small_experts(sent.h, weights.gate_up.value, weights.down.value,
                                  sent.routes.experts, sent.routes.weights, accumulation(config),
                                  sent.own.begin(config.router.experts));
  const at::Tensor rows = alone ? sent.rows : sent.exchanges[wave]->receive(sent.tickets[wave]);
  const kernels::Plan& plan = alone ? *sent.plan : sent.exchanges[wave]->plan();
  return grouped_linear(inner(rows, plan, weights), plan, weights.down);
}

at::Tensor experts_inner(const Dispatched& sent, const MoeWeights& weights) {
  return inner(sent.rows, *sent.plan, weights);
}

at::Tensor combined_columns(const Dispatched& sent, const at::Tensor& inner, int64_t begin,
                            int64_t count, const MoeWeights& weights, const MoeConfig& config) {
  const at::Tensor outputs = kernels::grouped_linear(inner, sent.plan->offsets,
                                                     weights.down.value.narrow(1, begin, count));
  return kernels::combine(outputs, sent.routes.weights, *sent.plan, accumulation(config));
}

at::Tensor send_back(const Dispatched& sent, int64_t wave, const at::Tensor& outputs,
                     const MoeConfig& config) {
  return sent.exchanges.empty() ? outputs
                                : sent.exchanges[wave]->send_back(outputs, accumulation(config));
}

RoutedOutput combine(const Dispatched& sent, const std::vector<at::Tensor>& outputs,
                     const MoeConfig& config) {
  if (!sent.exchanges.empty())  // several empty tickets are one
    return {sent.exchanges, outputs.size() == 1 ? outputs.front() : at::cat(outputs),
            accumulation(config)};
  if (!sent.gathers.empty()) {
    std::vector<comm::Pending> sums;
    for (const auto& wave : sent.gathers) sums.push_back(wave->sum());
    return {std::move(sums)};
  }
  return RoutedOutput(comm::Pending(sent.plan ? model::combine(outputs.front(), sent.routes.weights,
                                                               *sent.plan, accumulation(config))
                                              : outputs.front()));
}

}  // namespace farskip::model
