// rms_norm, swiglu and rope.
#include <torch/csrc/autograd/autograd.h>

#include "kernels/compare.h"
#include "kernels/generic.h"
#include "kernels/opmath.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "util/error.h"

namespace farskip::kernels {

namespace {

std::string name(at::ScalarType dtype, int64_t rows, int64_t size) {
  return util::concat(at::toString(dtype), " ", rows, " x ", size);
}

// The gradient of sum(y * grad_y) with respect to one input, by autograd.
at::Tensor gradient(const at::Tensor& y, const at::Tensor& grad_y, const at::Tensor& input) {
  return torch::autograd::grad({y}, {input}, {grad_y})[0];
}

}  // namespace

TEST(RmsNorm, MatchesThePlainFormula) {
  for (const auto dtype : kDtypes) {
    for (const auto& [rows, size] :
         {std::pair{1, 9}, {5, 16}, {3, 4}, {16, 512}, {70, 131}, {0, 8}}) {
      SCOPED_TRACE(name(dtype, rows, size));
      const at::Tensor wide = normal({rows, size + 5}, dtype);
      const at::Tensor weight = normal({size}, dtype);
      for (const at::Tensor& x :
           {wide.slice(1, 2, size + 2), wide.slice(1, 0, size).contiguous()}) {
        const auto found = rms_norm(x, weight, 1e-6);
        const auto expected = generic::rms_norm(x, weight, 1e-6);
        // Rounded before the weight and after; a sum of squares depends on where memory lies.
        expect_close(found.y, expected.y, "y", /*roundings=*/2);
        expect_close(found.rstd, expected.rstd, "rstd");

        const at::Tensor grad_y = normal({rows, size}, dtype);
        const at::Tensor sum = at::ones({size}, weight.options().dtype(opmath(dtype)));
        const at::Tensor expected_sum = sum.clone();
        expect_close(rms_norm_backward(grad_y, x, weight, found.rstd, sum, true),
                     generic::rms_norm_backward(grad_y, x, weight, found.rstd, expected_sum, true),
                     "grad x");
        expect_close(sum, expected_sum, "grad weight");
        EXPECT_FALSE(rms_norm_backward(grad_y, x, weight, found.rstd, {}, false).defined());
      }
    }
  }
}

TEST(RmsNorm, BackwardIsTheGradientOfForward) {
  const at::Tensor x = normal({6, 33}, at::kDouble).requires_grad_(true);
  const at::Tensor weight = normal({33}, at::kDouble).requires_grad_(true);
  const at::Tensor grad_y = normal({6, 33}, at::kDouble);
  const at::Tensor y = x * (x.square().mean(-1, true) + 1e-5).rsqrt() * weight;
  const at::Tensor rstd = rms_norm(x.detach(), weight.detach(), 1e-5).rstd;
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const at::Tensor sum = at::zeros({33}, dtype);
    const at::Tensor grad_x =
        rms_norm_backward(grad_y.to(dtype), x.detach().to(dtype), weight.detach().to(dtype),
                          rstd.to(dtype), sum, true);
    torch::autograd::variable_list expected =
        torch::autograd::grad({y}, {x, weight}, {grad_y}, /*retain_graph=*/true);
    expect_close(grad_x, expected[0].to(dtype), "grad x");
    expect_close(sum, expected[1].to(dtype), "grad weight");
  }
}

TEST(RmsNorm, ThreadsDoNotChangeBits) {
  const at::Tensor x = normal({1000, 515}, at::kBFloat16);
  const at::Tensor weight = normal({515}, at::kBFloat16);
  const at::Tensor rstd = rms_norm(x, weight, 1e-6).rstd;
  expect_thread_independent([&] { return rms_norm(x, weight, 1e-6).y; });
  expect_thread_independent([&] { return rms_norm_backward(x, x, weight, rstd, {}, true); });
  expect_thread_independent([&] {
    const at::Tensor sum = at::zeros({515}, at::kFloat);
    rms_norm_backward(x, x, weight, rstd, sum, false);
    return sum;
  });
}

TEST(Swiglu, MatchesThePlainFormula) {
  for (const auto dtype : kDtypes) {
    for (const auto& [rows, width] : {std::pair{1, 1}, {4, 9}, {3, 64}, {65, 130}, {0, 4}}) {
      SCOPED_TRACE(name(dtype, rows, width));
      const at::Tensor gate_up = normal({rows, 2 * width}, dtype).mul_(3);
      const at::Tensor grad = normal({rows, width}, dtype);
      expect_close(swiglu(gate_up), generic::swiglu(gate_up), "y");
      expect_close(swiglu_backward(grad, gate_up), generic::swiglu_backward(grad, gate_up), "grad");
    }
  }
}

TEST(Swiglu, SaturatesAtLargeGates) {
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const at::Tensor gates = at::tensor({-1e30, -300.0, -100.0, -80.0, 0.0, 80.0, 300.0, 1e30});
    const at::Tensor gate_up = at::cat({gates, at::ones_like(gates)}).to(dtype).unsqueeze(0);
    const at::Tensor y = swiglu(gate_up);
    EXPECT_TRUE(at::allclose(y, generic::swiglu(gate_up), 1e-2, 1e-30)) << y;
  }
}

TEST(Swiglu, BackwardIsTheGradientOfForward) {
  const at::Tensor gate_up = normal({5, 38}, at::kDouble).requires_grad_(true);
  const at::Tensor grad = normal({5, 19}, at::kDouble);
  const at::Tensor y = at::silu(gate_up.slice(1, 0, 19)) * gate_up.slice(1, 19, 38);
  const at::Tensor expected = gradient(y, grad, gate_up);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    expect_close(swiglu_backward(grad.to(dtype), gate_up.detach().to(dtype)), expected.to(dtype),
                 "grad");
  }
}

TEST(Rope, MatchesThePlainFormulaAndInverts) {
  for (const auto dtype : kDtypes) {
    for (const auto& [heads, dim] : {std::pair{1, 2}, {3, 6}, {8, 32}, {2, 64}, {5, 38}}) {
      const at::Tensor wide = normal({7, heads, dim + 4}, dtype);
      const at::Tensor angle = normal({7, dim / 2}, opmath(dtype));
      for (const at::Tensor& x : {wide.slice(2, 4), wide.slice(2, 0, dim).contiguous(),
                                  wide.slice(2, 0, dim).expand({7, heads, dim})}) {
        for (const bool interleaved : {false, true}) {
          SCOPED_TRACE(util::concat(name(dtype, heads, dim), " interleaved ", interleaved));
          const at::Tensor turned = rope(x, angle.cos(), angle.sin(), interleaved);
          expect_close(turned, generic::rope(x, angle.cos(), angle.sin(), interleaved, false), "");
          const at::Tensor back = rope(turned, angle.cos(), angle.sin(), interleaved, true);
          EXPECT_TRUE(at::allclose(back, x, 0, 2 * unit(dtype) * x.abs().max().item<double>()));
        }
      }
    }
  }
}

}  // namespace farskip::kernels
