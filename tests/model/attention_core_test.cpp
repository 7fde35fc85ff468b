#include "model/attention_core.h"

#include <gtest/gtest.h>

#include "model/model.h"
#include "support/shared_model.h"

namespace farskip::model {
namespace {

/// Prompts, of which two are of one length, a part of a prompt, and new tokens of sequences.
const std::vector<Segment> kSegments = {{0, 6, {0}}, {0, 6, {1}},     {3, 5, {2, 5}},
                                        {7, 1, {3}}, {11, 1, {4, 6}}, {0, 9, {7, 8}}};

class Attention : public testing::TestWithParam<std::string> {};

TEST_P(Attention, GivesSomeRowsAsItGivesAll) {
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  const test::SharedModel shared(GetParam());
  const Model model = load_model(shared.directory(), at::kDouble, at::kCPU, Residence::copied);
  KvCache cache(model.config, /*pages=*/9, /*page_tokens=*/8, model.dtype);
  LayerCache& kept = cache.layer(0);
  kept.keys.normal_();
  if (model.config.layers[0].attention.kind == AttentionKind::gqa) kept.values.normal_();

  Batch batch;
  batch.segments = kSegments;
  std::vector<int64_t> positions, rows;
  for (const Segment& s : kSegments)
    for (int64_t i = s.past; i < s.past + s.count; ++i) {
      positions.push_back(i);
      rows.push_back(s.pages[i / 8] * 8 + i % 8);
    }
  const int64_t count = std::ssize(positions);
  batch.positions = at::tensor(positions, at::kLong);
  batch.tokens = at::zeros_like(batch.positions);
  const AttentionConfig& config = model.config.layers[0].attention;
  const RopeTable rope = rope_table(config.rope, batch.positions, model.dtype);
  const AttentionContext context{batch, rope, &kept, at::tensor(rows, at::kLong)};
  const AttentionWeights& weights = model.weights.layers[0].attention;
  const auto prepared = attention_prepare(at::randn({count, model.config.hidden}, model.dtype),
                                          weights, config, context);
  AttentionCore all(prepared, weights, config, context);
  ASSERT_EQ(all.size(), count);
  const at::Tensor expected = all.rows(0, count);
  for (const int64_t width : {1, 2, 5, 7, 12, 20}) {
    AttentionCore core(prepared, weights, config, context);
    std::vector<at::Tensor> parts;
    for (int64_t begin = 0; begin < count; begin += width)
      parts.push_back(core.rows(begin, std::min(width, count - begin)));
    EXPECT_LT((at::cat(parts) - expected).abs().max().item<double>(), 1e-12) << width;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Attention,
                         testing::Values("deepseek_v2", "qwen3_moe", "instella_moe"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace farskip::model
