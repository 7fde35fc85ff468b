// All tokens on every rank, a part of every matrix on each: the same function as one rank's, and
// the same bits however messages travel.
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "schedule/forward.h"
#include "support/shared_model.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

using namespace farskip::test;
using comm::Rendezvous;
using MessagePart = comm::MessageName::Part;

struct Setting {
  std::string connectivity;
  at::ScalarType dtype = at::kDouble;
  int64_t ep = 0;  ///< 0: all ranks share the experts out
  Execution execution = Execution::overlapped;
  bool late = false;  ///< messages are
  int64_t waves = 1;
  std::optional<at::ScalarType> wire = {};
};

struct Outcome {
  at::Tensor hidden, logits;          ///< of whole sequences
  std::vector<at::Tensor> residuals;  ///< of the same
  std::vector<at::Tensor> steps;      ///< logits of prefill and decode with a cache
  at::Tensor kept;                    ///< hidden states of some rows alone
  comm::MessageLog messages;          ///< of the whole sequences
  PartLog parts;                      ///< of the same
};

/// Two sequences in step, each prefilled, decoded and continued by several tokens at once.
const std::vector<int64_t> kSteps[] = {{5, 1, 1, 4}, {1, 12, 1, 1}};

std::vector<int64_t> likeliest(const at::Tensor& logits) {
  const at::Tensor tokens = logits.argmax(-1);
  return {tokens.data_ptr<int64_t>(), tokens.data_ptr<int64_t>() + tokens.numel()};
}

std::vector<at::Tensor> step_by_step(const model::Model& model, ForwardOptions options) {
  std::vector<at::Tensor> found;
  model::KvCache cache(model.config, 2, 24, model.dtype);
  options.cache = &cache;
  const at::Tensor tokens = some_tokens(2, 24);
  std::vector<int64_t> past = {0, 0};
  for (size_t step = 0; step < kSteps[0].size(); ++step) {
    std::vector<std::vector<int64_t>> rows;
    for (int64_t row = 0; row < 2; ++row) {
      const at::Tensor part = tokens[row].narrow(0, past[row], kSteps[row][step]);
      rows.emplace_back(part.data_ptr<int64_t>(), part.data_ptr<int64_t>() + part.numel());
      past[row] += part.numel();
    }
    const std::vector<int64_t> before = {past[0] - kSteps[0][step], past[1] - kSteps[1][step]};
    const auto batch = model::Batch::rows(rows, before, at::kCPU);
    const at::Tensor hidden = forward(model, batch, options);
    found.push_back(logits(model, hidden, options.ranks));
    EXPECT_EQ(best_tokens(model, hidden, options.ranks), likeliest(found.back()));
    ForwardOptions last = options;  // of each sequence
    last.rows = at::tensor({kSteps[0][step] - 1, batch.size() - 1}, at::kLong);
    found.push_back(logits(model, forward(model, batch, last), options.ranks));
  }
  return found;
}

const at::Tensor& asked_rows() {
  static const at::Tensor rows = at::tensor({23, 47, 71, 95, 3}, at::kLong);
  return rows;
}

Outcome run(const SharedModel& shared, const Setting& setting, const comm::Group& group) {
  const at::NoGradGuard no_grad;
  const int64_t rank = group.rank(), size = group.size(), ep = setting.ep ? setting.ep : size;
  model::ExpertRanks ranks{.execution = setting.execution,
                           .wire = setting.wire,
                           .waves = setting.waves,
                           .wave_tokens = 32};
  model::Share share;
  if (size > 1) {
    ranks.reducer = std::make_shared<comm::Reducer>(
        setting.late ? comm::delayed(group, 17 + rank, std::chrono::microseconds(500)) : group);
    share = replicated_share(rank, size, ep);
  }
  const model::Model model = model::load_model(shared.directory(), setting.dtype, at::kCPU,
                                               model::Residence::copied, share);
  const ForwardOptions options{.connectivity = variant(setting.connectivity, model.config.depth()),
                               .ranks = ranks};
  const auto batch = model::Batch::whole(some_tokens(4, 24));
  Outcome outcome;
  if (ranks.reducer) ranks.reducer->record(&outcome.messages);
  ForwardOptions watched = options;
  watched.parts = &outcome.parts;
  outcome.hidden = forward(model, batch, watched);
  outcome.logits = logits(model, outcome.hidden, ranks);
  outcome.parts.leave();
  if (ranks.reducer) ranks.reducer->record(nullptr);
  watched = options;
  watched.on_residual = [&](int64_t, const at::Tensor& x) { outcome.residuals.push_back(x); };
  forward(model, batch, watched);
  ForwardOptions some = options;
  some.rows = asked_rows();
  outcome.kept = forward(model, batch, some);
  outcome.steps = step_by_step(model, options);
  return outcome;
}

/// By rank and setting.
std::vector<std::vector<Outcome>> over_ranks(int64_t size, const SharedModel& model,
                                             const std::vector<Setting>& settings) {
  std::vector<std::vector<Outcome>> found(size);
  Rendezvous::threads(size, [&](Rendezvous& rendezvous) {
    const comm::Group group = rendezvous.all();
    for (const Setting& setting : settings)
      found[rendezvous.rank()].push_back(run(model, setting, group));
  });
  return found;
}

std::string describe(const Setting& setting, int64_t ranks) {
  return util::concat(setting.connectivity, ", ", ranks, " ranks, ep ", setting.ep, ", ",
                      at::toString(setting.dtype), ", ", setting.waves, " waves",
                      setting.late ? ", late" : "",
                      setting.execution == Execution::blocking ? ", blocking" : "");
}

class Replicated : public testing::TestWithParam<std::string> {};

TEST_P(Replicated, ComputesWhatOneRankComputes) {
  const SharedModel model(GetParam());
  std::vector<Setting> settings;
  for (const auto dtype : {at::kDouble, at::kFloat})
    for (const std::string connectivity : kVariants) {
      if (dtype == at::kFloat && connectivity != "farskip") continue;
      const auto kind = static_cast<int64_t>(settings.size());
      // Experts shared out, cut, and (on four ranks) both.
      settings.push_back({connectivity, dtype, /*ep=*/kind % 3});
      settings.back().waves = 1 + kind % 4;
    }
  const auto one = over_ranks(1, model, settings).front();
  for (const int64_t size : {2, 4}) {
    const auto ranks = over_ranks(size, model, settings);
    for (size_t i = 0; i < settings.size(); ++i) {
      SCOPED_TRACE(describe(settings[i], size));
      const double tolerance = settings[i].dtype == at::kDouble ? 1e-9 : 1e-4;
      const Outcome& many = ranks.front()[i];
      EXPECT_LT(relative_error(many.hidden, one[i].hidden), tolerance);
      EXPECT_LT(relative_error(many.logits, one[i].logits), tolerance);
      for (size_t k = 0; k < one[i].residuals.size(); ++k)
        EXPECT_LT(relative_error(many.residuals[k], one[i].residuals[k]), tolerance) << "x_" << k;
      for (size_t step = 0; step < one[i].steps.size(); ++step)
        EXPECT_LT(relative_error(many.steps[step], one[i].steps[step]), tolerance)
            << "step " << step;
      for (const auto* outcome : {&many, &one[i]})
        EXPECT_LT(relative_error(outcome->kept, outcome->hidden.index_select(0, asked_rows())),
                  tolerance);
      for (const auto& other : ranks) {  // every rank samples from the same bits
        EXPECT_TRUE(other[i].logits.equal(many.logits));
        EXPECT_TRUE(other[i].steps.back().equal(many.steps.back()));
      }
    }
  }
}

TEST_P(Replicated, EveryExecutionGivesTheSameBits) {
  const SharedModel model(GetParam());
  for (const int64_t size : {2, 4}) {
    std::vector<Setting> settings;
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const std::string connectivity : kVariants) {
        // On two ranks or on four, which takes half the time of both; farskip on both.
        const bool on_two = connectivity == "regular" || connectivity == "attention";
        if (connectivity != "farskip" && on_two != (size == 2)) continue;
        Setting setting{connectivity, dtype, /*ep=*/static_cast<int64_t>(settings.size()) / 2 % 2};
        setting.waves = dtype == at::kFloat ? 3 : 1;
        if (connectivity == "attention") setting.wire = at::kBFloat16;
        setting.execution = Execution::blocking;
        settings.push_back(setting);
        setting.execution = Execution::overlapped;
        setting.late = true;
        settings.push_back(setting);
      }
    for (const auto& found : over_ranks(size, model, settings))
      for (size_t i = 0; i < settings.size(); ++i) {
        SCOPED_TRACE(describe(settings[i], size));
        const Outcome& blocking = found[i / 2 * 2];
        EXPECT_TRUE(found[i].logits.equal(blocking.logits));
        EXPECT_TRUE(found[i].kept.equal(blocking.kept));
        for (size_t step = 0; step < blocking.steps.size(); ++step)
          EXPECT_TRUE(found[i].steps[step].equal(blocking.steps[step])) << "step " << step;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Replicated, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

/// When a part of a layer was worked on; waits before the next part lie inside.
std::vector<PartSpan> spans_of(const PartLog& log, Part part, int64_t layer) {
  std::vector<PartSpan> found;
  for (const PartSpan& span : log.spans)
    if (span.part == part && span.layer == layer) found.push_back(span);
  return found;
}

TEST(ReplicatedMessages, TwoALayerAndUnderCompute) {
  const SharedModel shared("deepseek_v2");  // a dense layer, then three with shared experts
  const auto ranks = over_ranks(2, shared,
                                {{"farskip", at::kFloat},
                                 {"regular", at::kFloat},
                                 {.connectivity = "regular", .waves = 3},
                                 {.connectivity = "farskip", .waves = 2}});
  const auto names = [](const Outcome& outcome) {
    std::string text;
    for (const comm::Message& message : outcome.messages.messages)
      text += (text.empty() ? "" : "; ") + message.name.describe();
    return text;
  };
  const Outcome &far = ranks[0][0], &regular = ranks[0][1], &waves = ranks[0][2],
                &thirds = ranks[0][3];
  EXPECT_EQ(names(far),
            "embedding; layer 0 attention and MLP; "
            "layer 1 attention and MLP; layer 1 routed experts; "
            "layer 2 attention and MLP; layer 2 routed experts; "
            "layer 3 attention and MLP; layer 3 routed experts; logits");
  EXPECT_EQ(names(regular),
            "embedding; layer 0 attention; layer 0 MLP; layer 1 attention; layer 1 routed experts; "
            "layer 2 attention; layer 2 routed experts; "
            "layer 3 attention; layer 3 routed experts; logits");
  EXPECT_EQ(waves.messages.messages.size(), 2 + 6 * 2 + 3 * 6);  // a dense layer's waves are small
  // A wave's sum leaves before the next wave is worked on.
  const auto expect_waves = [](const Outcome& outcome, MessagePart sum, Part part, int64_t count) {
    const auto spans = spans_of(outcome.parts, part, 1);
    ASSERT_EQ(std::ssize(spans), count);
    for (const comm::Message& message : outcome.messages.messages)
      if (message.name.layer == 1 && message.name.part == sum && message.name.chunk + 1 < count) {
        EXPECT_LE(message.launched, spans[message.name.chunk + 1].begin);
      }
  };
  expect_waves(waves, MessagePart::attention, Part::attend, 3);
  // Twice as many where the experts work on all of them, if that leaves 32 tokens for each.
  expect_waves(thirds, MessagePart::merged, Part::shared, 3);
  int64_t under = 0;
  for (const comm::Message& message : far.messages.messages) {
    const int64_t k = message.name.layer;
    const auto runs_under = [&](const PartSpan& part) {
      EXPECT_LE(message.launched, part.begin) << message.name.describe();
      EXPECT_GT(message.asked, part.begin) << message.name.describe();
      ++under;
    };
    if (message.name.part == MessagePart::merged && k > 0)
      runs_under(spans_of(far.parts, Part::experts, k).at(0));
    if (message.name.part == MessagePart::routed && k < 3) {
      runs_under(spans_of(far.parts, Part::attention_prepare, k + 1).at(0));
      runs_under(spans_of(far.parts, Part::attend, k + 1).at(0));
    }
    if (message.name.part == MessagePart::merged || message.name.part == MessagePart::routed) {
      EXPECT_EQ(message.bytes, 96 * 36 * 4);  // two ranks: each sends as much as there is
    }
  }
  EXPECT_EQ(under, 3 + 2 * 2);
}

TEST(ReplicatedShare, KeyValueHeadsFewerThanRanksAreHeldTwice) {
  for (const int64_t kv_heads : {1, 2}) {
    const SharedModel shared("qwen3_moe_dense_middle",
                             [&](io::Json& json) { json["num_key_value_heads"] = kv_heads; });
    const auto one = over_ranks(1, shared, {{"farskip"}}),
               four = over_ranks(4, shared, {{"farskip"}});
    EXPECT_LT(relative_error(four[0][0].logits, one[0][0].logits), 1e-9);
    for (size_t step = 0; step < one[0][0].steps.size(); ++step)
      EXPECT_LT(relative_error(four[0][0].steps[step], one[0][0].steps[step]), 1e-9);
    const auto config = model::read_config(shared.directory() / "config.json");
    for (int64_t rank = 0; rank < 4; ++rank) {
      const auto local = model::local_config(config, replicated_share(rank, 4, 4));
      EXPECT_EQ(model::KvCache::bytes_per_token(local, 4) * kv_heads,
                model::KvCache::bytes_per_token(config, 4));
    }
  }
}

TEST(Replicated, RefusesGradientsAndRanksThatTheModelWasNotCutFor) {
  const SharedModel shared("deepseek_v3");
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    const model::ExpertRanks ranks{.reducer = std::make_shared<comm::Reducer>(rendezvous.all())};
    const auto load = [&](const model::Share& share) {
      return model::load_model(shared.directory(), at::kFloat, at::kCPU, model::Residence::mapped,
                               share);
    };
    const auto cut = load(replicated_share(rendezvous.rank(), 2, 2));
    const auto batch = model::Batch::whole(some_tokens(1, 4));
    const auto connectivity = model::Connectivity::regular(cut.config.depth());
    const auto fails = [&](const model::Model& model, const model::ExpertRanks& with,
                           bool gradients, const std::string& says) {
      const at::AutoGradMode mode(gradients);
      try {
        forward(model, batch, {.connectivity = connectivity, .ranks = with});
        ADD_FAILURE() << "expected: " << says;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
      }
    };
    fails(cut, ranks, true, "only infer");
    fails(cut, {}, false, "cut among 2 ranks");
    fails(load({}), ranks, false, "cut among 1 ranks");
  });
}

}  // namespace
}  // namespace farskip::schedule
