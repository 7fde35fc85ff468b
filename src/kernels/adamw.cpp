#include "kernels/adamw.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

void adamw(at::Tensor value, at::Tensor master, const at::Tensor& gradient, at::Tensor m,
           at::Tensor v, const AdamWStep& step) {
  const at::NoGradGuard no_grad;
  const bool dense = value.is_contiguous() && gradient.is_contiguous() && m.is_contiguous() &&
                     v.is_contiguous() && (!master.defined() || master.is_contiguous());
  const bool done =
      dense && isa::with_kernels(value, [&]<class T>(const isa::Kernels<T>& kernels) {
        const isa::AdamW constants{
            .gradient_scale = static_cast<float>(step.gradient_scale),
            .keep1 = static_cast<float>(step.beta1),
            .add1 = static_cast<float>(1 - step.beta1),
            .keep2 = static_cast<float>(step.beta2),
            .add2 = static_cast<float>(1 - step.beta2),
            .decay = static_cast<float>(1 - step.lr * step.weight_decay),
            .rate = static_cast<float>(step.lr / (1 - std::pow(step.beta1, step.step))),
            .correction = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, step.step))),
            .eps = static_cast<float>(step.eps)};
        T* rounded = master.defined() ? isa::mutable_data<T>(value) : nullptr;
        float* precise = isa::mutable_data<float>(master.defined() ? master : value);
        const float* grad = isa::data<float>(gradient);
        float* first = isa::mutable_data<float>(m);
        float* second = isa::mutable_data<float>(v);
        parallel_for(value.numel(), grain_for(32), [&](int64_t begin, int64_t end) {
          kernels.adamw(rounded, precise, grad, first, second, begin, end, constants);
        });
      });
  if (!done) generic::adamw(value, master, gradient, m, v, step);
}

}  // namespace farskip::kernels
