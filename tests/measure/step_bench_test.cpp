// Steps of a benchmark: what is in them, and that they leave the model as it was.
#include "measure/step_bench.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "measure/step_report.h"
#include "support/golden.h"

namespace farskip::measure {
namespace {

std::vector<at::Tensor> values(model::Model& model) {
  std::vector<at::Tensor> found;
  for (const model::Binding& binding : model::bind(model.weights, model.config, model.share))
    found.push_back(binding.parameter->value.detach().clone());
  return found;
}

std::vector<VariantResult> bench(comm::Rendezvous& rendezvous, Update update) {
  const comm::Grid grid = comm::make_grid(rendezvous, 2);
  model::Model model =
      model::load_model(test::golden_directory("deepseek_v2"), at::kFloat, at::kCPU,
                        model::Residence::mapped, model::Share::of_experts(grid.expert_part(), 2))
          .trainable();
  const int64_t depth = model.config.depth();
  const std::vector<at::Tensor> before = values(model);
  const auto results =
      bench_steps(model, grid, all_variants(),
                  {.sequence = 12,
                   .micro_batches = 3,
                   .interleave = true,
                   .rounds = 2,
                   .warmup = 0,
                   .converted = {model::ConnectivityKind::farskip, {0, depth}, depth},
                   .waves = 2,
                   .update = update,
                   .traced = true});
  const std::vector<at::Tensor> after = values(model);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(before[i].equal(after[i])) << "parameter " << i;
  return results;
}

class StepBench : public testing::TestWithParam<Update> {};

TEST_P(StepBench, HasTheMessagesAndTheWorkOfItsUpdate) {
  const at::AutoGradMode gradients(true);
  const Update update = GetParam();
  std::vector<VariantResult> results;
  comm::Rendezvous::threads(2, [&](comm::Rendezvous& rendezvous) {
    const auto own = bench(rendezvous, update);
    if (rendezvous.rank() == 0) results = own;
  });
  ASSERT_EQ(results.size(), all_variants().size());
  using Part = comm::MessageName::Part;
  for (const VariantResult& result : results) {
    SCOPED_TRACE(util::concat(result.variant.connectivity_name(), " ",
                              result.variant.execution_name(),
                              result.variant.network ? "" : ", no network"));
    ASSERT_EQ(result.rounds.size(), 2u);
    EXPECT_EQ(result.rounds.front().forward_by_layer.size(), 3u) << "layers with experts";
    const auto count = [&](Part part) {
      return std::ranges::count_if(result.timeline.messages,
                                   [&](const auto& message) { return message.name.part == part; });
    };
    // All parameters that both ranks have fit one bucket, besides the embedding's.
    const bool exchanged = update == Update::all && result.variant.network;
    EXPECT_EQ(count(Part::gradients), exchanged ? 2 : 0);
    EXPECT_EQ(count(Part::weights), exchanged ? 2 : 0);
    const int64_t waves = result.variant.execution == model::Execution::overlapped ? 2 : 1;
    // Forward and backward of three micro-batches and three layers.
    EXPECT_EQ(count(Part::dispatch), 2 * 3 * 3 * waves);
    const bool works = std::ranges::any_of(result.timeline.parts, [](const auto& span) {
      return span.part == schedule::Part::optimizer;
    });
    EXPECT_EQ(works, update != Update::none);
  }
  StepReport report;
  report.update = update;
  report.add(1, 12, results);
  const auto json = report.json();
  EXPECT_EQ(json["rows"].size(), results.size());
  for (const auto& row : json["rows"]) {
    EXPECT_EQ(row["update"], to_string(update));
    EXPECT_EQ(row.contains("weights"), update == Update::all && row["network"] == "link");
  }
}

INSTANTIATE_TEST_SUITE_P(Updates, StepBench,
                         testing::Values(Update::none, Update::own, Update::all),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace farskip::measure
