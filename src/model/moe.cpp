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

Dispatched dispatch(const at::Tensor& h, const MoeWeights& weights, const MoeConfig& config) {
  Dispatched sent;
  sent.h = h;
  sent.routes = route(h, weights.router, weights.correction, config.router);
  if (!needs_graph(h, weights.gate_up.value) &&
      kernels::small_linear_supported(h, weights.gate_up.value[0]))
    return sent;
  sent.plan = kernels::plan(sent.routes.experts, config.router.experts);
  sent.rows = gather_rows(h, *sent.plan);
  return sent;
}

at::Tensor experts(const Dispatched& sent, const MoeWeights& weights, const MoeConfig& config) {
  if (!sent.plan)
    return kernels::small_experts(sent.h, weights.gate_up.value, weights.down.value,
                                  sent.routes.experts, sent.routes.weights, accumulation(config));
  const at::Tensor gate_up = grouped_linear(sent.rows, *sent.plan, weights.gate_up);
  return grouped_linear(swiglu(gate_up), *sent.plan, weights.down);
}

at::Tensor combine(const Dispatched& sent, const at::Tensor& outputs, const MoeConfig& config) {
  if (!sent.plan) return outputs;
  return model::combine(outputs, sent.routes.weights, *sent.plan, accumulation(config));
}

}  // namespace farskip::model
