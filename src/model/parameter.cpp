#include "model/parameter.h"

#include <ATen/ATen.h>

#include "kernels/accumulate.h"

namespace farskip::model {

void Parameter::train() {
  value = value.detach().requires_grad_(true);
  const auto dtype = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  gradient =
      at::zeros_like(value, value.options().dtype(dtype), at::MemoryFormat::Contiguous).detach();
}

void Parameter::accumulate(const at::Tensor& contribution) const {
  if (trained()) kernels::accumulate(gradient, contribution);
}

void Parameter::contribute(int64_t bytes, std::function<void()> work) const {
  if (queue)
    queue->push(gradient, bytes, std::move(work));
  else
    work();
}

}  // namespace farskip::model
