#include "train/task.h"

#include <ATen/ATen.h>

#include <numeric>

namespace farskip::train {

double Validation::mean_router_agreement() const {
  if (router_agreement.empty()) return 0;
  return std::accumulate(router_agreement.begin(), router_agreement.end(), 0.0) /
         static_cast<double>(router_agreement.size());
}

at::Tensor balance_loss(const model::Routes& routes, int64_t sequences) {
  const int64_t experts = routes.scores.size(1), top_k = routes.experts.size(1);
  const int64_t length = routes.experts.size(0) / sequences;
  const at::Tensor chosen = routes.experts.view({sequences, length * top_k});
  const at::Tensor counts =
      at::zeros({sequences, experts}, routes.scores.options().requires_grad(false))
          .scatter_add_(1, chosen, at::ones_like(chosen, routes.scores.scalar_type()));
  const at::Tensor f =
      counts * (static_cast<double>(experts) / static_cast<double>(length * top_k));
  // Sigmoid scores do not add up to one; DeepSeek-V3 makes them.
  const at::Tensor p = (routes.scores / routes.scores.sum(1, true)).view({sequences, length, -1});
  return (f * p.mean(1)).sum(1).mean();
}

double route_overlap(const at::Tensor& a, const at::Tensor& b) {
  return a.unsqueeze(2).eq(b.unsqueeze(1)).any(2).to(at::kDouble).mean().item<double>();
}

double active_weights(const model::Model& model) {
  model::Weights weights = model.weights;
  double sum = 0;
  for (const model::Binding& binding : model::bind(weights, model.config)) {
    const model::Parameter* parameter = binding.parameter;
    if (parameter == &weights.embedding && !model.config.tied_embeddings) continue;
    auto count = static_cast<double>(parameter->value.numel());
    for (size_t k = 0; k < weights.layers.size(); ++k) {
      const auto& moe = weights.layers[k].moe;
      if (parameter != &moe.gate_up && parameter != &moe.down) continue;
      const auto& router = model.config.layers[k].moe->router;
      count *= static_cast<double>(router.top_k) / static_cast<double>(router.experts);
    }
    sum += count;
  }
  return sum;
}

}  // namespace farskip::train
