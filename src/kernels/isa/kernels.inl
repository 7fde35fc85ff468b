// All kernels of one instruction set: included once by each file that names a namespace and level.
#include <stdint.h>

#include "kernels/isa/table.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace farskip::kernels::isa::FARSKIP_ISA_NAMESPACE {
namespace {

#include "kernels/isa/vector.inl"
//
#include "kernels/isa/rows.inl"
//
#include "kernels/isa/products.inl"
//
#include "kernels/isa/decode.inl"

template <class T>
constexpr Kernels<T> kernels() {
  return {.rms_norm = rms_norm<T>,
          .rms_norm_backward = rms_norm_backward<T>,
          .argmax = argmax<T>,
          .swiglu = swiglu<T>,
          .swiglu_backward = swiglu_backward<T>,
          .rope = rope<T>,
          .scatter_rows = scatter_rows<T>,
          .combine = combine<T>,
          .combine_backward = combine_backward<T>,
          .small_linear = small_linear<T>,
          .small_linear_transposed = small_linear_transposed<T>,
          .experts_up = experts_up<T>,
          .experts_down = experts_down<T>,
          .attention = attention<T>,
          .attention_join = attention_join<T>,
          .accumulate = accumulate<T>,
          .adamw = adamw<T>};
}

}  // namespace

extern const Table kTable;
const Table kTable = {FARSKIP_ISA_LEVEL, kernels<bf16>(), kernels<float>()};

}  // namespace farskip::kernels::isa::FARSKIP_ISA_NAMESPACE
