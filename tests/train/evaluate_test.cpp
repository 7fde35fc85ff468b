#include "train/evaluate.h"

#include <gtest/gtest.h>

#include "support/golden.h"
#include "util/error.h"

namespace farskip::train {
namespace {

using namespace farskip::test;

Rows rows_of(const at::Tensor& tokens) {
  Rows rows{tokens, at::roll(tokens, -1, 1), at::ones_like(tokens, at::kBool)};
  rows.learn.select(1, tokens.size(1) - 1).fill_(false);
  return rows;
}

TEST(Evaluate, EqualsThePlainFigures) {
  for (const std::string name : {"deepseek_v2", "qwen3_moe_dense_middle"}) {
    const auto golden = golden_values(name);
    const auto model = model::load_model(golden_directory(name), at::kFloat);
    const int64_t depth = model.config.depth();
    const Rows rows = rows_of(golden.at("tokens"));
    const Subject student{model, {.connectivity = variant("farskip", depth)}};
    const Subject teacher{model, {.connectivity = variant("regular", depth)}};
    const auto found = evaluate(student, &teacher, rows, {.rows_at_once = 1});

    const auto counted = [](const at::Tensor& t) {
      return t.narrow(1, 0, t.size(1) - 1).flatten(0, 1).to(at::kDouble);
    };
    const at::Tensor own = counted(golden.at("logits.farskip")).log_softmax(-1);
    const at::Tensor other = counted(golden.at("logits.regular")).log_softmax(-1);
    const at::Tensor next = golden.at("tokens").narrow(1, 1, 23).flatten().unsqueeze(1);
    EXPECT_EQ(found.tokens, 46);
    EXPECT_NEAR(found.loss, -own.gather(1, next).mean().item<double>(), 1e-5);
    EXPECT_NEAR(*found.kl, (other.exp() * (other - own)).sum(-1).mean().item<double>(), 1e-5);
    EXPECT_NEAR(*found.top1_agreement,
                own.argmax(-1).eq(other.argmax(-1)).to(at::kDouble).mean().item<double>(), 1e-9);
    for (const auto& [layer, share] : found.router_agreement) {
      const at::Tensor a = golden.at("routing.farskip." + std::to_string(layer)).unsqueeze(-1);
      const at::Tensor b = golden.at("routing.regular." + std::to_string(layer)).unsqueeze(-2);
      EXPECT_NEAR(share, a.eq(b).any(-1).to(at::kDouble).mean().item<double>(), 1e-6) << layer;
    }

    const auto itself = evaluate(teacher, &teacher, rows, {.rows_at_once = 2});
    EXPECT_NEAR(*itself.kl, 0, 1e-6);
    EXPECT_EQ(*itself.top1_agreement, 1);
    EXPECT_EQ(itself.mean_router_agreement(), 1);
  }
}

TEST(Evaluate, PaddingCountsForNothing) {
  const auto model = model::load_model(golden_directory("deepseek_v2"), at::kFloat);
  const int64_t depth = model.config.depth();
  const Subject student{model, {.connectivity = variant("farskip", depth)}};
  const Subject teacher{model, {.connectivity = variant("regular", depth)}};
  const Rows rows = rows_of(golden_values("deepseek_v2").at("tokens")).slice(0, 1);
  const auto longer = [](const at::Tensor& t, int64_t with) {
    return at::cat({t, at::full({1, 6}, with, t.options())}, 1);
  };
  const Rows padded{longer(rows.tokens, 3), longer(rows.targets, 3), longer(rows.learn, 0), 6};
  const auto expected = evaluate(student, &teacher, rows),
             found = evaluate(student, &teacher, padded);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_NEAR(found.loss, expected.loss, 1e-6);
  EXPECT_NEAR(*found.kl, *expected.kl, 1e-6);
  EXPECT_NEAR(found.mean_router_agreement(), expected.mean_router_agreement(), 1e-9);
}

TEST(Evaluate, RefusesATeacherOfAnotherShape) {
  const auto model = model::load_model(golden_directory("deepseek_v2"), at::kFloat);
  const auto other = model::load_model(golden_directory("qwen3_moe_dense_middle"), at::kFloat);
  const Subject student{model, {.connectivity = model.config.connectivity}};
  const Subject teacher{other, {.connectivity = other.config.connectivity}};
  EXPECT_THROW(evaluate(student, &teacher, rows_of(at::ones({1, 4}, at::kLong))), InputError);
}

}  // namespace
}  // namespace farskip::train
