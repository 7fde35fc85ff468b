#include "train/task.h"

#include <ATen/ATen.h>

#include "model/parameter_count.h"

namespace farskip::train {

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

double active_weights(const model::Model& model) {
  const auto count = model::count_parameters(model.config);
  // The embedding is looked up, not multiplied with, unless it is the head too.
  return static_cast<double>(count.active() - (model.config.tied_embeddings ? 0 : count.embedding));
}

}  // namespace farskip::train
