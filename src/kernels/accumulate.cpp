#include "kernels/accumulate.h"

#include <ATen/ATen.h>

#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

void accumulate(const at::Tensor& into, const at::Tensor& addend) {
  const at::NoGradGuard no_grad;
  const bool alike = into.scalar_type() == at::kFloat && into.is_contiguous() &&
                     addend.is_contiguous() && into.sizes() == addend.sizes();
  const bool done =
      alike && isa::with_kernels(addend, [&]<class T>(const isa::Kernels<T>& kernels) {
        float* sum = isa::mutable_data<float>(into);
        const T* from = isa::data<T>(addend);
        parallel_for(
            into.numel(), grain_for(2 * sizeof(float) + sizeof(T)),
            [&](int64_t begin, int64_t end) { kernels.accumulate(sum, from, begin, end); });
      });
  if (!done) into.detach().add_(addend);
}

}  // namespace farskip::kernels
