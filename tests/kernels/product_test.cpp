// Products of matrices and sums of them, in every way that a processor may choose.
#include "kernels/product.h"

#include "kernels/compare.h"
#include "kernels/opmath.h"
#include "util/error.h"

namespace farskip::kernels {

TEST(Product, IsAccumulatedInOpmathAndRoundedOnce) {
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble})
    for (const int64_t rows : {1, 7, 8, 33})
      for (const auto& [depth, columns] : {std::pair<int64_t, int64_t>{8, 40}, {130, 7}, {64, 8}}) {
        SCOPED_TRACE(util::concat(c10::toString(dtype), " ", rows, "x", depth, "x", columns));
        const auto precise = opmath(dtype);
        const at::Tensor a = normal({rows, depth}, dtype), b = normal({depth, columns}, dtype);
        const at::Tensor bias = normal({columns}, dtype);
        const at::Tensor exact = at::mm(a.to(precise), b.to(precise));
        expect_close(product(a, b), exact.to(dtype), "product");
        const at::Tensor out = at::empty({rows, columns}, a.options());
        product_into(out, a, b);
        expect_close(out, exact.to(dtype), "product into");
        expect_close(kernels::linear(a, b.t().contiguous(), at::Tensor()), exact.to(dtype),
                     "linear");
        expect_close(kernels::linear(a, b.t(), bias), (exact + bias.to(precise)).to(dtype),
                     "with bias");
        const at::Tensor sum = at::ones({rows, columns}, precise);
        add_product(sum, a, b);
        EXPECT_TRUE(at::allclose(sum, exact + 1, unit(dtype), 10 * unit(dtype)));
      }
}

}  // namespace farskip::kernels
