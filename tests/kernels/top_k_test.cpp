#include "kernels/top_k.h"

#include <gtest/gtest.h>

#include <limits>

#include "util/error.h"

namespace farskip::kernels {

TEST(TopK, TiesTakeTheLowestIndexAndNanComesLast) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor scores = at::tensor({1.0, 3.0, 3.0, nan, -inf, 1.0,   //
                                        nan, nan, -inf, nan, nan, -inf,  //
                                        2.0, 2.0, 2.0, 2.0, 2.0, 2.0},
                                       at::kDouble)
                                .view({3, 6});
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const TopK found = top_k(scores.to(dtype), 4);
    const at::Tensor expected =
        at::tensor({1, 2, 0, 5, 2, 5, 0, 1, 0, 1, 2, 3}, at::kLong).view({3, 4});
    EXPECT_TRUE(at::equal(found.indices, expected)) << found.indices;
    EXPECT_TRUE(at::allclose(found.values, scores.to(dtype).gather(1, expected), 0, 0, true));
  }
}

TEST(TopK, AgreesWithAFullSort) {
  const at::Tensor scores = at::randint(0, 50, {37, 129}, at::kFloat);
  const auto [values, indices] = scores.sort(true, -1, true);
  for (const int64_t k : {0, 1, 8, 129}) {
    const TopK found = top_k(scores, k);
    EXPECT_TRUE(at::equal(found.values, values.slice(1, 0, k)));
    EXPECT_TRUE(at::equal(found.indices, indices.slice(1, 0, k)));
  }
  EXPECT_THROW(top_k(scores, 130), InputError);
}

TEST(Argmax, FindsTheFirstOfTheGreatestAndRefusesWhatIsNotFinite) {
  at::manual_seed(3);
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble, at::kHalf}) {
    for (const int64_t size : {1, 2, 7, 16, 17, 100, 1000}) {
      SCOPED_TRACE(util::concat(c10::toString(dtype), " ", size));
      // Few distinct negative values: many ties, and no maximum above padding's zero.
      at::Tensor row = (at::randint(0, 5, {size}, at::kDouble) - 9).to(dtype);
      const at::Tensor wide = row.to(at::kDouble);
      const double* value = wide.const_data_ptr<double>();
      EXPECT_EQ(kernels::argmax(row), std::max_element(value, value + size) - value);
      for (const double bad : {NAN, INFINITY, -INFINITY}) {
        for (const int64_t at : {int64_t{0}, size / 2, size - 1}) {
          const at::Tensor damaged = row.clone();
          damaged[at] = bad;
          EXPECT_EQ(kernels::argmax(damaged), std::nullopt) << bad << " at " << at;
        }
      }
    }
  }
}

}  // namespace farskip::kernels
