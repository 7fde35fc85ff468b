#include "kernels/adamw.h"

#include <cmath>

#include "kernels/compare.h"
#include "kernels/opmath.h"

namespace farskip::kernels {

// Against the formula of the paper in float64, element by element in whole-tensor arithmetic.
TEST(AdamW, FollowsTheFormulaOverFiveSteps) {
  for (const auto dtype : kDtypes) {
    for (const int64_t size : {1, 19, 5000}) {
      const auto precise = opmath(dtype);
      at::Tensor value = normal({size}, dtype);
      const bool lifted = dtype != precise;
      at::Tensor master = lifted ? value.to(precise) : at::Tensor();
      at::Tensor m = at::zeros({size}, precise);
      at::Tensor v = at::zeros({size}, precise);
      at::Tensor x = value.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      at::Tensor m64 = at::zeros({size}, at::kDouble);
      at::Tensor v64 = at::zeros({size}, at::kDouble);
      for (int64_t t = 1; t <= 5; ++t) {
        const AdamWStep step{.lr = 0.01 * t,
                             .beta1 = 0.9,
                             .beta2 = 0.95,
                             .eps = 1e-8,
                             .weight_decay = 0.1,
                             .gradient_scale = 0.5,
                             .step = t};
        const at::Tensor gradient = normal({size}, precise);
        adamw(value, master, gradient, m, v, step);

        const at::Tensor g = gradient.to(at::kDouble) * 0.5;
        m64 = 0.9 * m64 + 0.1 * g;
        v64 = 0.95 * v64 + 0.05 * g * g;
        x = x - step.lr * 0.1 * x -
            step.lr * (m64 / (1 - std::pow(0.9, t))) /
                ((v64 / (1 - std::pow(0.95, t))).sqrt() + 1e-8);
      }
      SCOPED_TRACE(at::toString(dtype));
      expect_close(lifted ? master : value, x.to(precise), "master");
      expect_close(m, m64.to(precise), "m");
      expect_close(v, v64.to(precise), "v");
      if (lifted) {
        EXPECT_TRUE(at::equal(value, master.to(dtype)));
      }
    }
  }
}

TEST(AdamW, ThreadsDoNotChangeBits) {
  const at::Tensor start = normal({30001}, at::kFloat);
  expect_thread_independent([&] {
    const at::Tensor value = start.clone();
    const at::Tensor m = at::zeros_like(value);
    const at::Tensor v = at::zeros_like(value);
    for (int64_t t = 1; t < 3; ++t) adamw(value, {}, start, m, v, {.lr = 0.1, .step = t});
    return value;
  });
}

}  // namespace farskip::kernels
