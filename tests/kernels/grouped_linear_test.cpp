#include "kernels/grouped_linear.h"

#include <c10/core/InferenceMode.h>

#include "kernels/compare.h"
#include "kernels/opmath.h"
#include "util/error.h"

namespace farskip::kernels {

TEST(GroupedLinear, MatchesOneProductAnExpert) {
  const std::vector<int64_t> offsets = {0, 0, 3, 20, 20, 21, 58};  // experts 0 and 3 are empty
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble}) {
    for (const auto& [outputs, depth] : {std::pair{5, 9}, {64, 32}, {33, 130}}) {
      const auto precise = opmath(dtype);
      const at::Tensor x = normal({58, depth}, dtype);
      const at::Tensor grad = normal({58, outputs}, dtype);
      const at::Tensor weight = normal({6, outputs, depth}, dtype);
      const at::Tensor sum = at::ones({6, outputs, depth}, precise);
      const at::Tensor y = grouped_linear(x, offsets, weight);
      const at::Tensor grad_x = grouped_linear_transposed(grad, offsets, weight);
      grouped_weight_gradient(grad, x, offsets, sum);
      for (int64_t e = 0; e < 6; ++e) {
        const auto rows = [&](const at::Tensor& t) {
          return t.slice(0, offsets[e], offsets[e + 1]);
        };
        const at::Tensor w = weight[e].to(precise);
        const at::Tensor product = at::mm(rows(grad).to(precise).t(), rows(x).to(precise));
        expect_close(rows(y), at::mm(rows(x).to(precise), w.t()).to(dtype), "y");
        expect_close(rows(grad_x), at::mm(rows(grad).to(precise), w).to(dtype), "grad x");
        EXPECT_TRUE(at::allclose(sum[e], product + 1, unit(dtype), 10 * unit(dtype)));
        if (offsets[e] == offsets[e + 1]) {
          EXPECT_TRUE(sum[e].eq(1).all().item<bool>());
        }
      }
    }
  }
}

// Experts are shared out over threads, in runs that end anywhere.
TEST(GroupedLinear, DoesNotDependOnTheNumberOfThreads) {
  const c10::InferenceMode inference;  // which the threads must take over
  for (const auto& offsets : {std::vector<int64_t>{0, 0, 3, 20, 20, 21, 58},
                              {0, 58, 58},
                              {0, 58},
                              {0, 1, 2, 57, 58},
                              {0, 0, 0}}) {
    const int64_t rows = offsets.back(), experts = static_cast<int64_t>(offsets.size()) - 1;
    for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble}) {
      SCOPED_TRACE(util::concat(c10::toString(dtype), " ", rows, " rows, ", experts, " experts"));
      const at::Tensor x = normal({rows, 40}, dtype), grad = normal({rows, 24}, dtype);
      const at::Tensor weight = normal({experts, 24, 40}, dtype);
      expect_thread_independent([&] { return grouped_linear(x, offsets, weight); });
      expect_thread_independent([&] { return grouped_linear_transposed(grad, offsets, weight); });
      expect_thread_independent([&] {
        const at::Tensor sum = at::zeros({experts, 24, 40}, opmath(dtype));
        grouped_weight_gradient(grad, x, offsets, sum);
        return sum;
      });
    }
  }
}

}  // namespace farskip::kernels
