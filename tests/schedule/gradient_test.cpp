// Gradients of every parameter against finite differences in float64, and of whole training steps
// against the plain implementation's.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "schedule/forward.h"
#include "support/golden.h"

namespace farskip::schedule {
namespace {

using namespace farskip::test;

class Gradient : public testing::TestWithParam<std::string> {};

/// A smooth function of all residuals and the hidden states.
struct Probe {
  const at::Tensor tokens;
  model::Connectivity connectivity;
  at::Tensor weights;  ///< [depth + 2, N, hidden]

  at::Tensor operator()(const model::Model& model) const {
    at::Tensor sum = at::zeros({}, at::kDouble);
    ForwardOptions options{.connectivity = connectivity};
    options.on_residual = [&](int64_t k, const at::Tensor& x) {
      sum = sum + (x.tanh() * weights[k]).sum();
    };
    const at::Tensor hidden = forward(model, model::Batch::whole(tokens), options);
    return sum + (hidden * weights[model.config.depth() + 1]).sum();
  }
};

TEST_P(Gradient, EqualsFiniteDifferences) {
  const auto frozen = model::load_model(golden_directory(GetParam()), at::kDouble);
  model::Model model = frozen.trainable();
  at::manual_seed(5);
  const int64_t depth = model.config.depth();
  const at::Tensor tokens = golden_values(GetParam()).at("tokens").narrow(1, 0, 9);
  const at::Tensor weights = at::randn({depth + 2, 18, model.config.hidden}, at::kDouble);
  for (const std::string name : {"regular", "farskip", "attention", "moe"}) {
    const Probe probe{tokens, variant(name, depth), weights};
    for (model::Parameter* parameter : model.parameters())
      if (parameter->trained()) parameter->gradient.zero_();
    probe(model).backward();

    const at::NoGradGuard no_grad;
    for (model::Parameter* parameter : model.parameters()) {
      if (!parameter->trained() || parameter == &model.weights.head) continue;
      // Along one random direction, which a wrong element anywhere changes.
      at::Tensor value = parameter->value.detach();
      const at::Tensor direction = at::randn_like(value);
      constexpr double kStep = 1e-6;
      value.add_(direction, kStep);
      const double above = probe(model).item<double>();
      value.sub_(direction, 2 * kStep);
      const double below = probe(model).item<double>();
      value.add_(direction, kStep);
      const double expected = (above - below) / (2 * kStep);
      const double found = (parameter->gradient * direction).sum().item<double>();
      EXPECT_NEAR(found, expected, 1e-5 * (1 + std::abs(expected)))
          << name << " " << parameter->name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Gradient, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::schedule
