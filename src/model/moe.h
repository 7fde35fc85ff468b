// MLPs: dense, shared, and routed experts in the three steps that the schedule needs.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/dispatch.h"
#include "model/router.h"
#include "model/weights.h"

namespace farskip::model {

/// down(silu(gate x) * up x). x [N, hidden] -> [N, hidden]
at::Tensor mlp(const at::Tensor& x, const MlpWeights& weights);

/// Tokens on their way to the experts; a value that the combine takes back.
struct Dispatched {
  at::Tensor h;  ///< [N, hidden], the normed input of router, experts and shared experts
  Routes routes;
  /// Who goes where; absent when so few tokens are decoded that experts and combine are one kernel.
  std::optional<kernels::Plan> plan;
  at::Tensor rows;  ///< [N k, hidden] grouped by expert; undefined without a plan
};

Dispatched dispatch(const at::Tensor& h, const MoeWeights& weights, const MoeConfig& config);

/// Outputs of the routed experts [N k, hidden] in the plan's order; without a plan, combined
/// already [N, hidden].
at::Tensor experts(const Dispatched& sent, const MoeWeights& weights, const MoeConfig& config);

/// Weighted sums [N, hidden], in the order of the experts whatever the layout.
at::Tensor combine(const Dispatched& sent, const at::Tensor& outputs, const MoeConfig& config);

}  // namespace farskip::model
