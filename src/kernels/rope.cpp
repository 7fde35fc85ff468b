#include "kernels/rope.h"

#include <ATen/ATen.h>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                bool inverse) {
  at::Tensor y;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    const at::Tensor in = x.stride(2) == 1 ? x : x.contiguous();
    const at::Tensor cosines = cos.contiguous();
    const at::Tensor sines = sin.contiguous();
    y = empty(in.sizes(), in.scalar_type());
    const T* from = isa::data<T>(in);
    const float* c = isa::data<float>(cosines);
    const float* s = isa::data<float>(sines);
    T* to = isa::mutable_data<T>(y);
    const int64_t heads = in.size(1);
    const int64_t dim = in.size(2);
    parallel_for(in.size(0), grain_for(2 * heads * dim * sizeof(T)),
                 [&](int64_t begin, int64_t end) {
                   kernels.rope(from, in.stride(0), in.stride(1), c, s, to, begin, end, heads, dim,
                                interleaved, inverse);
                 });
  });
  return done ? y : generic::rope(x, cos, sin, interleaved, inverse);
}

}  // namespace farskip::kernels
