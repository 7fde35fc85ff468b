#include "model/moe.h"

#include <ATen/ATen.h>

#include "kernels/small_experts.h"
#include "kernels/small_linear.h"
#include "model/differentiable.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

kernels::Accumulate accumulation(const MoeConfig& config) {
  return config.router.in_model_dtype ? kernels::Accumulate::kDtype : kernels::Accumulate::kOpmath;
}

}  // namespace

at::Tensor mlp(const at::Tensor& x, const MlpWeights& weights) {
  return linear(swiglu(linear(x, weights.gate_up, {})), weights.down, {});
}

Dispatched dispatch(const at::Tensor& h, const MoeWeights& weights, const MoeConfig& config,
                    const DispatchOptions& options) {
  Dispatched sent;
  sent.h = h;
  sent.routes = route(h, weights.router, weights.correction, config.router, options.chosen);
  if (options.ranks.size() > 1) {
    sent.exchange = options.again
                        ? options.again
                        : std::make_shared<ExpertExchange>(
                              options.ranks, options.layer, sent.routes, config.router.experts,
                              h.size(1), h.scalar_type(), options.chunks, options.kept);
    sent.ticket = sent.exchange->send(h, sent.routes.weights);
    return sent;
  }
  if (!needs_graph(h, weights.gate_up.value) &&
      kernels::small_linear_supported(h, weights.gate_up.value[0]))
    return sent;
  sent.plan = kernels::plan(sent.routes.experts, config.router.experts);
  sent.rows = gather_rows(h, *sent.plan);
  return sent;
}

at::Tensor experts(const Dispatched& sent, const MoeWeights& weights, const MoeConfig& config) {
  if (!sent.exchange && !sent.plan)
    return kernels::small_experts(sent.h, weights.gate_up.value, weights.down.value,
                                  sent.routes.experts, sent.routes.weights, accumulation(config));
  const at::Tensor rows = sent.exchange ? sent.exchange->receive(sent.ticket) : sent.rows;
  const kernels::Plan& plan = sent.exchange ? sent.exchange->plan() : *sent.plan;
  return grouped_linear(swiglu(grouped_linear(rows, plan, weights.gate_up)), plan, weights.down);
}

RoutedOutput combine(const Dispatched& sent, const at::Tensor& outputs, const MoeConfig& config) {
  if (sent.exchange)
    return {sent.exchange, sent.exchange->send_back(outputs), accumulation(config)};
  return RoutedOutput(comm::Pending(
      sent.plan ? model::combine(outputs, sent.routes.weights, *sent.plan, accumulation(config))
                : outputs));
}

}  // namespace farskip::model
