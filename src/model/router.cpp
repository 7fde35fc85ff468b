#include "model/router.h"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/top_k.h"
#include "model/ops.h"

namespace farskip::model {
namespace {

/// Experts outside the best groups get `excluded` (0 for DeepSeek-V2, -inf for V3).
at::Tensor limit_groups(const at::Tensor& choice, const RouterConfig& config) {
  const at::Tensor grouped = choice.unflatten(-1, {config.groups, -1});
  const bool maximum = config.selection == ExpertSelection::group_maximum;
  const at::Tensor group_scores =
      maximum ? grouped.amax(-1) : std::get<0>(grouped.topk(2, -1)).sum(-1);
  const at::Tensor kept = kernels::top_k(group_scores.contiguous(), config.groups_kept).indices;
  const at::Tensor dropped =
      at::ones_like(group_scores, group_scores.options().dtype(at::kBool)).scatter(-1, kept, false);
  const double excluded = maximum ? 0.0 : -std::numeric_limits<double>::infinity();
  return grouped.masked_fill(dropped.unsqueeze(-1), excluded).flatten(-2);
}

at::Tensor best_experts(at::Tensor choice, const Parameter& correction,
                        const RouterConfig& config) {
  if (correction.defined()) choice = choice + correction.value.detach();
  if (config.selection != ExpertSelection::greedy && config.groups_kept < config.groups)
    choice = limit_groups(choice, config);
  return kernels::top_k(choice.contiguous(), config.top_k).indices;
}

}  // namespace

Routes route(const at::Tensor& x, const Parameter& weight, const Parameter& correction,
             const RouterConfig& config, const at::Tensor& chosen) {
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor logits =
      config.in_model_dtype ? linear(x, weight, {}).to(wide) : linear(x.to(wide), weight, {});
  Routes routes;
  routes.scores = config.score == RouterScore::softmax ? logits.softmax(-1) : logits.sigmoid();

  routes.experts = chosen.defined() ? chosen.to(x.device())
                                    : best_experts(routes.scores.detach(), correction, config);

  routes.weights = routes.scores.gather(-1, routes.experts);
  if (config.normalise)
    routes.weights = routes.weights / (routes.weights.sum(-1, /*keepdim=*/true) + 1e-20);
  if (config.scale != 1) routes.weights = routes.weights * config.scale;
  if (config.in_model_dtype) routes.weights = routes.weights.to(x.scalar_type());
  return routes;
}

}  // namespace farskip::model
