// What a recorder keeps of an engine's passes, on one rank and on two.
#include "measure/step_recorder.h"

#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "engine/engine_support.h"
#include "support/shared_model.h"

namespace farskip::measure {
namespace {

using namespace farskip::engine;
using Kind = StepRecorder::Kind;

/// A prompt, worked on whole, and two more tokens.
void generate(Engine& engine) {
  const auto listener = std::make_shared<Recorder>();
  engine.submit(greedy({1, 2, 3, 4, 5}, 3), listener);
  while (engine.step()) {
  }
  EXPECT_EQ(listener->tokens.size(), 3u);
}

TEST(StepRecorder, DrawsPassesOnceSomebodyAsks) {
  const auto model = small_model();
  StepRecorder recorder;
  EngineOptions options = options_for(model, "farskip", 2, 16, 8);
  options.observer = &recorder;
  Engine engine(model, options);
  generate(engine);
  EXPECT_FALSE(recorder.last(Kind::decode).has_value());
  EXPECT_GT(recorder.totals().seconds, 0);
  EXPECT_EQ(recorder.totals().all.messages, 0);
  generate(engine);
  const auto prefill = recorder.last(Kind::prefill), decode = recorder.last(Kind::decode);
  ASSERT_TRUE(prefill && decode);
  EXPECT_EQ(std::tie(prefill->number, prefill->sequences, prefill->tokens), std::tuple(4, 1, 5));
  EXPECT_EQ(std::tie(decode->number, decode->sequences, decode->tokens), std::tuple(6, 1, 1));
  for (const auto& step : {*prefill, *decode}) {
    auto covered = step.timeline.start;
    std::set<int64_t> layers;
    for (const auto& part : step.timeline.parts) {
      EXPECT_LE(covered, part.begin);
      EXPECT_LE(part.begin, part.end);
      covered = part.end;
      layers.insert(part.layer);
    }
    EXPECT_LE(covered, step.timeline.end);
    EXPECT_EQ(std::ssize(layers), model.config.depth() + 1);  // and the head
    EXPECT_EQ(step.timeline.parts.back().part, schedule::Part::head);
  }
}

TEST(StepRecorder, AddsUpTheMessagesOfItsRank) {
  using enum comm::MessageName::Part;
  const test::SharedModel checkpoint("deepseek_v3");
  comm::Rendezvous::threads(2, [&](comm::Rendezvous& rendezvous) {
    const int64_t rank = rendezvous.rank();
    const auto model =
        model::load_model(checkpoint.directory(), at::kFloat, at::kCPU, model::Residence::mapped,
                          test::replicated_share(rank, 2, /*ep=*/2));
    const auto reducer = std::make_shared<comm::Reducer>(
        comm::delayed(rendezvous.all(), /*seed=*/rank, std::chrono::microseconds(200)));
    StepRecorder recorder({.reducer = reducer});
    EngineOptions options = options_for(model, "farskip", 2, 16, 8);
    options.ranks.reducer = reducer;
    options.group = rendezvous.all();
    options.observer = &recorder;
    Engine engine(model, options);
    recorder.last(Kind::decode);
    if (rank == 0) {
      generate(engine);
      engine.close();
      engine.step();
    } else {
      engine.follow();
    }
    const StepTotals totals = recorder.totals();
    EXPECT_EQ(totals.ranks, 2);
    comm::Traffic sum;
    for (const auto& [part, traffic] : totals.by_message) sum += traffic;
    EXPECT_EQ(sum.messages, totals.all.messages);
    EXPECT_EQ(sum.bytes, totals.all.bytes);
    EXPECT_GE(sum.communication, totals.all.communication - 1e-9);  // seconds: sums round
    EXPECT_GT(totals.all.communication, 0);
    EXPECT_LE(totals.all.exposed, totals.all.communication);
    EXPECT_LE(totals.all.communication, totals.seconds);
    const int64_t moe_layers =
        std::count_if(model.config.layers.begin(), model.config.layers.end(),
                      [](const auto& layer) { return layer.moe.has_value(); });
    EXPECT_EQ(totals.by_message.at(routed).messages, 3 * moe_layers);
    EXPECT_EQ(totals.by_message.at(merged).messages, 3 * model.config.depth());
    const auto decode = recorder.last(Kind::decode);
    ASSERT_TRUE(decode);
    EXPECT_EQ(decode->timeline.rank, rank);
    EXPECT_EQ(3 * std::ssize(decode->timeline.messages), totals.all.messages);
  });
}

}  // namespace
}  // namespace farskip::measure
