#include "kernels/accumulate.h"

#include "kernels/compare.h"

namespace farskip::kernels {

TEST(Accumulate, AddsEveryDtypeInPlace) {
  for (const auto dtype : kDtypes) {
    for (const int64_t rows : {1, 7, 301}) {
      const at::Tensor wide = normal({rows, 2 * 19}, dtype);
      for (const at::Tensor& addend : {wide, wide.slice(1, 0, 38, 2)}) {
        const auto precise = dtype == at::kDouble ? at::kDouble : at::kFloat;
        const at::Tensor whole = normal({rows, 50}, precise);
        const at::Tensor before = whole.clone();
        const at::Tensor into = whole.narrow(1, 3, addend.size(1));
        accumulate(into, addend);
        at::Tensor expected = before.clone();
        expected.narrow(1, 3, addend.size(1)) += addend.to(precise);
        EXPECT_TRUE(whole.equal(expected)) << c10::toString(dtype) << " of a slice";

        const at::Tensor dense = before.narrow(1, 3, addend.size(1)).contiguous();
        const at::Tensor sum = dense + addend.to(precise);
        expect_thread_independent([&] {
          const at::Tensor result = dense.clone();
          accumulate(result, addend);
          EXPECT_TRUE(result.equal(sum)) << c10::toString(dtype);
          return result;
        });
      }
    }
  }
}

}  // namespace farskip::kernels
