// One AdamW step (Loshchilov & Hutter 2019) of one tensor in one pass over memory.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace farskip::kernels {

struct AdamWStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double gradient_scale = 1;  ///< multiplies the gradient (clipping, averaging)
  int64_t step = 1;           ///< counts from 1, for the bias correction
};

/// Decoupled weight decay as in torch.optim.AdamW. master, gradient, m and v are in opmath dtype;
/// master holds the precise value and value receives it rounded. master may be undefined when value
/// is in opmath dtype itself. value, master, m and v are updated in place; all are dense and of one
/// shape.
void adamw(at::Tensor value, at::Tensor master, const at::Tensor& gradient, at::Tensor m,
           at::Tensor v, const AdamWStep& step);

}  // namespace farskip::kernels
