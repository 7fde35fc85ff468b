#include "kernels/rope.h"

#include "kernels/generic.h"

namespace farskip::kernels {

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                bool inverse) {
  return generic::rope(x, cos, sin, interleaved, inverse);
}

}  // namespace farskip::kernels
