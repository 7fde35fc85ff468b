// Losses and gradients of whole steps against the Python oracle, and the balance of experts.
#include "train/task.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "support.h"

namespace farskip::train {
namespace {

using Loss = DistillationOptions::Loss;

struct Setting {
  const char* model;
  const char* name;
  Loss loss;
};

class Distilled : public testing::TestWithParam<Setting> {};

TEST_P(Distilled, LossAndEveryGradientAreTheOracles) {
  at::set_num_threads(1);
  const Setting setting = GetParam();
  const model::Model teacher = model::load_model(golden(setting.model), at::kDouble);
  model::Model student = teacher.trainable();
  const int64_t depth = teacher.config.depth();
  const auto task =
      distillation(teacher, {.connectivity = model::Connectivity::regular(depth)}, student,
                   {.connectivity = {model::ConnectivityKind::farskip, {0, depth}, depth}},
                   {.loss = setting.loss, .l2_weight = 0.1});
  const at::Tensor tokens =
      io::SafetensorsFile::open(golden(setting.model) / "golden.safetensors").tensor("tokens");
  Rows rows{tokens, at::roll(tokens, -1, 1), at::ones_like(tokens, at::kBool)};
  if (setting.loss == Loss::cross_entropy) rows.learn.select(1, tokens.size(1) - 1).fill_(false);
  const double weight = 1.0 / rows.learn.sum().item<double>();
  double loss = 0;  // a row at a time: gradients must add up
  for (int64_t row = 0; row < rows.count(); ++row)
    loss += task->forward(rows.slice(row, 1), weight, 0.5)->finish().loss;

  const auto expected = io::SafetensorsFile::open(golden(setting.model) / "gradients.safetensors");
  const std::string prefix = std::string(setting.name) + ".";
  EXPECT_NEAR(loss, expected.tensor(prefix + "loss").item<double>(), 1e-6);
  for (const model::Binding& binding : model::bind(student.weights, student.config)) {
    if (!binding.parameter->trained()) continue;
    for (const model::Piece& piece : binding.pieces) {
      const at::Tensor found = binding.view(binding.parameter->gradient, piece);
      const at::Tensor gradient = expected.tensor(prefix + piece.name);
      EXPECT_TRUE(found.allclose(gradient.to(at::kDouble), 1e-4, 1e-7)) << piece.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Losses, Distilled,
                         testing::Values(Setting{"instella_moe", "kl", Loss::kl},
                                         Setting{"instella_moe", "sft", Loss::cross_entropy},
                                         Setting{"instella_moe", "kl+l2", Loss::kl_and_l2},
                                         Setting{"qwen3_moe_dense_middle", "kl", Loss::kl},
                                         Setting{"qwen3_moe_dense_middle", "kl+l2",
                                                 Loss::kl_and_l2}));

TEST(Balance, LossIsOneWhenEvenAndExpertsWhenAllGoToOne) {
  model::Routes routes;
  const int64_t tokens = 8, experts = 4;
  routes.experts = (at::arange(tokens) % experts).unsqueeze(1);
  routes.scores = at::full({tokens, experts}, 0.25, at::kDouble);
  EXPECT_NEAR(balance_loss(routes, 2).item<double>(), 1, 1e-12);
  routes.experts.zero_();
  routes.scores = at::zeros({tokens, experts}, at::kDouble);
  routes.scores.select(1, 0).fill_(0.3);  // a sigmoid's scores need not sum to one
  EXPECT_NEAR(balance_loss(routes, 1).item<double>(), 4, 1e-12);
}

TEST(Balance, OverlapCountsSharedExpertsWhateverTheirOrder) {
  const at::Tensor a = at::tensor({0, 1, 2, 3}, at::kLong).view({2, 2});
  const at::Tensor b = at::tensor({1, 0, 3, 5}, at::kLong).view({2, 2});
  EXPECT_DOUBLE_EQ(route_overlap(a, b), 0.75);
}

TEST(Balance, BiasesFollowTheLoad) {
  at::set_num_threads(1);
  const model::Model origin = model::load_model(golden("deepseek_v3"));
  model::Model model = origin.trainable();
  const auto task = pretraining(model, {.connectivity = model.config.connectivity},
                                {.kind = Balance::bias, .rate = 0.01});
  const at::Tensor tokens = at::arange(48).view({2, 24}) + 4;
  task->forward({tokens, at::roll(tokens, -1, 1), at::ones_like(tokens, at::kBool)}, 1, 1)
      ->finish();
  task->after_step(true);
  for (size_t k = 0; k < model.weights.layers.size(); ++k) {
    const auto& changed = model.weights.layers[k].moe.correction.value;
    if (!changed.defined()) continue;
    const at::Tensor change = changed - origin.weights.layers[k].moe.correction.value;
    EXPECT_GT(change.max().item<double>(), 0.009);
    EXPECT_LT(change.min().item<double>(), -0.009);
  }
}

TEST(Task, ActiveWeightsCountTopKOfTheExperts) {
  const model::Model model = model::load_model(golden("qwen3_moe"));
  double all = 0, experts = 0;
  for (const model::Parameter* parameter : model.parameters())
    all += static_cast<double>(parameter->value.numel());
  double share = 0;
  for (size_t k = 0; k < model.weights.layers.size(); ++k) {
    const auto& moe = model.weights.layers[k].moe;
    if (!moe.gate_up.defined()) continue;
    experts += static_cast<double>(moe.gate_up.value.numel() + moe.down.value.numel());
    const auto& router = model.config.layers[k].moe->router;
    share = static_cast<double>(router.top_k) / static_cast<double>(router.experts);
  }
  const double embedding =
      model.config.tied_embeddings ? 0 : static_cast<double>(model.weights.embedding.value.numel());
  EXPECT_NEAR(active_weights(model), all - embedding - experts * (1 - share), 1e-6);
}

}  // namespace
}  // namespace farskip::train
