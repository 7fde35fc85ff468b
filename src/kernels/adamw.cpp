#include "kernels/adamw.h"

#include "kernels/generic.h"

namespace farskip::kernels {

void adamw(at::Tensor value, at::Tensor master, const at::Tensor& gradient, at::Tensor m,
           at::Tensor v, const AdamWStep& step) {
  generic::adamw(value, master, gradient, m, v, step);
}

}  // namespace farskip::kernels
