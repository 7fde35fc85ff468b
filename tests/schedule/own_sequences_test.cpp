// Every rank has sequences of its own, some ranks at times none: the same function as one rank's
// that has them all, and the same bits however messages travel.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "model/synthetic_routes.h"
#include "schedule/forward.h"
#include "support/golden.h"
#include "support/shared_model.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

using namespace farskip::test;
using comm::Rendezvous;

constexpr int64_t kSequences = 4, kLength = 24;

using model::Transport;

struct Setting {
  Transport transport;
  std::string connectivity;
  at::ScalarType dtype = at::kDouble;
  Execution execution = Execution::overlapped;
  bool late = false;  ///< messages are
  int64_t waves = 1;
  std::optional<at::ScalarType> wire = {};
};

/// Which sequences a rank has.
using Owners = std::vector<std::vector<int64_t>>;  // by rank
const Owners kAll = {{0, 1, 2, 3}};
const Owners kUneven[] = {{{0, 1, 2}, {3}}, {{}, {0, 1, 2, 3}}, {{0}, {}, {1, 3}, {2}}};

/// New tokens of every sequence, step by step: prefill, decode, several at once, or nothing.
constexpr int64_t kSteps[][kSequences] = {
    {5, 0, 7, 1}, {1, 0, 1, 12}, {1, 9, 0, 1}, {1, 1, 0, 1}, {4, 1, 2, 0}};
/// Of the whole sequences, tokens whose hidden states are asked for; all of one rank's in none.
const std::vector<int64_t> kAsked[kSequences] = {{23}, {}, {0, 22, 23}, {7}};

/// By sequence.
struct Outcome {
  std::map<int64_t, at::Tensor> logits, residuals, kept;
  std::map<int64_t, std::vector<at::Tensor>> steps;
};

at::Tensor tokens_of(int64_t sequence) {
  return (at::arange(kLength) * 37 + 11 + 5 * sequence).remainder(89);
}

/// One pass for the `count` tokens of each of the sequences that follow `past` ones.
at::Tensor step(const model::Model& model, const std::vector<int64_t>& own,
                const std::vector<int64_t>& past, const int64_t* count,
                const ForwardOptions& options) {
  std::vector<std::vector<int64_t>> rows;
  std::vector<int64_t> begins;
  std::vector<std::vector<int64_t>> pages;
  for (const int64_t sequence : own) {
    if (count[sequence] == 0) continue;
    const at::Tensor part = tokens_of(sequence).narrow(0, past[sequence], count[sequence]);
    rows.emplace_back(part.data_ptr<int64_t>(), part.data_ptr<int64_t>() + part.numel());
    begins.push_back(past[sequence]);
    pages.push_back({sequence});
  }
  auto batch = model::Batch::rows(rows, begins, at::kCPU);
  for (size_t i = 0; i < pages.size(); ++i) batch.segments[i].pages = pages[i];
  return logits(model, forward(model, batch, options));
}

void step_by_step(const model::Model& model, const std::vector<int64_t>& own,
                  ForwardOptions options, Outcome& outcome) {
  model::KvCache cache(model.config, kSequences, kLength, model.dtype);
  options.cache = &cache;
  std::vector<int64_t> past(kSequences, 0);
  for (const auto& count : kSteps) {
    const at::Tensor found = step(model, own, past, count, options);
    int64_t row = 0;
    for (const int64_t sequence : own) {
      outcome.steps[sequence].push_back(found.narrow(0, row, count[sequence]));
      row += count[sequence];
      past[sequence] += count[sequence];
    }
  }
}

/// What is given for rows of own sequences, sequence by sequence.
void keep(std::map<int64_t, at::Tensor>& into, const std::vector<int64_t>& own, const at::Tensor& x,
          const std::vector<int64_t>* asked = nullptr) {
  int64_t row = 0;
  for (const int64_t sequence : own) {
    const int64_t count = asked ? std::ssize(asked[sequence]) : kLength;
    into[sequence] = x.narrow(0, row, count);
    row += count;
  }
}

Outcome run(const std::string& name, const Setting& setting, const std::vector<int64_t>& own,
            const Rendezvous& rendezvous, const comm::Group& rows, const comm::Group& counts) {
  const at::NoGradGuard no_grad;
  const int64_t rank = rendezvous.rank(), size = rendezvous.size();
  model::ExpertRanks ranks{.transport = setting.transport,
                           .execution = setting.execution,
                           .wire = setting.wire,
                           .waves = setting.waves,
                           .wave_tokens = 32};
  if (size > 1)
    ranks.courier = std::make_shared<comm::Courier>(
        setting.late ? comm::delayed(rows, 17 + rank, std::chrono::microseconds(500)) : rows,
        counts);
  const model::Model model =
      model::load_model(golden_directory(name), setting.dtype, at::kCPU, model::Residence::mapped,
                        model::Share::of_experts(rank, size));
  ForwardOptions options{.connectivity = variant(setting.connectivity, model.config.depth()),
                         .ranks = ranks};
  std::vector<at::Tensor> sequences;
  std::vector<int64_t> asked;
  for (const int64_t sequence : own) {
    for (const int64_t row : kAsked[sequence])
      asked.push_back(std::ssize(sequences) * kLength + row);
    sequences.push_back(tokens_of(sequence));
  }
  const auto batch =
      model::Batch::whole(own.empty() ? at::empty({0, kLength}, at::kLong) : at::stack(sequences));
  Outcome outcome;
  ForwardOptions watched = options;
  std::vector<at::Tensor> residuals;
  watched.on_residual = [&](int64_t, const at::Tensor& x) { residuals.push_back(x); };
  keep(outcome.logits, own, logits(model, forward(model, batch, watched)));
  keep(outcome.residuals, own, at::stack(residuals, 1));
  options.rows = at::tensor(asked, at::kLong);
  keep(outcome.kept, own, logits(model, forward(model, batch, options)), kAsked);
  options.rows = at::Tensor();
  options.ranks.wave_tokens = 8;
  step_by_step(model, own, options, outcome);
  return outcome;
}

/// By setting, of all sequences.
std::vector<Outcome> over_ranks(const Owners& owners, const std::string& name,
                                const std::vector<Setting>& settings) {
  std::vector<std::vector<Outcome>> found(owners.size());
  Rendezvous::threads(std::ssize(owners), [&](Rendezvous& rendezvous) {
    const comm::Group rows = rendezvous.all(), counts = rendezvous.all();
    for (const Setting& setting : settings)
      found[rendezvous.rank()].push_back(
          run(name, setting, owners[rendezvous.rank()], rendezvous, rows, counts));
  });
  for (size_t rank = 1; rank < found.size(); ++rank)
    for (size_t i = 0; i < settings.size(); ++i) {
      found[0][i].logits.merge(found[rank][i].logits);
      found[0][i].residuals.merge(found[rank][i].residuals);
      found[0][i].kept.merge(found[rank][i].kept);
      found[0][i].steps.merge(found[rank][i].steps);
    }
  return found[0];
}

std::string describe(const Setting& setting, const Owners& owners) {
  return util::concat(setting.transport == Transport::all_gather ? "all-gather, " : "all-to-all, ",
                      setting.connectivity, ", ", owners.size(), " ranks, ",
                      at::toString(setting.dtype), ", ", setting.waves, " waves",
                      setting.late ? ", late" : "",
                      setting.execution == Execution::blocking ? ", blocking" : "");
}

class OwnSequences : public testing::TestWithParam<std::string> {};

TEST_P(OwnSequences, GiveWhatOneRankGives) {
  std::vector<Setting> settings;
  for (const auto transport : {Transport::all_gather, Transport::all_to_all})
    for (const auto dtype : {at::kDouble, at::kFloat})
      for (const std::string connectivity : kVariants) {
        if (dtype == at::kFloat && connectivity != "farskip") continue;
        settings.push_back({transport, connectivity, dtype});
        settings.back().waves = 1 + std::ssize(settings) % 3;
      }
  const auto one = over_ranks(kAll, GetParam(), settings);
  for (const Owners& owners : kUneven) {
    const auto many = over_ranks(owners, GetParam(), settings);
    for (size_t i = 0; i < settings.size(); ++i) {
      SCOPED_TRACE(describe(settings[i], owners));
      const double tolerance = settings[i].dtype == at::kDouble ? 1e-9 : 1e-4;
      for (int64_t sequence = 0; sequence < kSequences; ++sequence) {
        SCOPED_TRACE(util::concat("sequence ", sequence));
        const auto equal = [&](const at::Tensor& found, const at::Tensor& expected) {
          ASSERT_EQ(found.sizes(), expected.sizes());
          if (expected.numel() > 0) {
            EXPECT_LT(relative_error(found, expected), tolerance);
          }
        };
        equal(many[i].logits.at(sequence), one[i].logits.at(sequence));
        equal(many[i].residuals.at(sequence), one[i].residuals.at(sequence));
        equal(many[i].kept.at(sequence), one[i].kept.at(sequence));
        for (size_t step = 0; step < std::size(kSteps); ++step)
          equal(many[i].steps.at(sequence)[step], one[i].steps.at(sequence)[step]);
      }
    }
  }
}

TEST_P(OwnSequences, GiveTheSameBitsInEveryExecution) {
  for (const auto& [dtype, owners] :
       {std::pair{at::kFloat, kUneven[0]}, std::pair{at::kBFloat16, kUneven[2]}}) {
    std::vector<Setting> settings;
    const auto add = [&](Transport transport, const std::string& connectivity) {
      Setting setting{transport, connectivity, dtype};
      setting.waves = dtype == at::kFloat ? 3 : 1;
      if (connectivity == "attention") setting.wire = at::kBFloat16;
      setting.execution = Execution::blocking;
      settings.push_back(setting);
      setting.execution = Execution::overlapped;
      setting.late = true;
      settings.push_back(setting);
    };
    for (const std::string connectivity : kVariants) add(Transport::all_gather, connectivity);
    add(Transport::all_to_all, "farskip");  // without gradients: attention in pieces
    const auto found = over_ranks(owners, GetParam(), settings);
    for (size_t i = 0; i < settings.size(); i += 2) {
      SCOPED_TRACE(describe(settings[i], owners));
      for (int64_t sequence = 0; sequence < kSequences; ++sequence) {
        const Outcome &blocking = found[i], &late = found[i + 1];
        EXPECT_TRUE(late.logits.at(sequence).equal(blocking.logits.at(sequence)));
        EXPECT_TRUE(late.kept.at(sequence).equal(blocking.kept.at(sequence)));
        for (size_t step = 0; step < std::size(kSteps); ++step)
          EXPECT_TRUE(late.steps.at(sequence)[step].equal(blocking.steps.at(sequence)[step]));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OwnSequences, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

/// Pieces of attention, by layer: before the layer's experts, and all.
struct Pieces {
  int64_t before = 0, all = 0;
};
std::map<int64_t, Pieces> pieces_of(const PartLog& log) {
  std::map<int64_t, Pieces> found;
  std::set<int64_t> experts;  // of layers
  for (const PartSpan& span : log.spans) {
    if (span.part == Part::experts) experts.insert(span.layer);
    if (span.part != Part::attend) continue;
    found[span.layer].before += !experts.count(span.layer);
    ++found[span.layer].all;
  }
  return found;
}

/// First waves of tokens that left before all of those before had come back from the layer before.
int64_t early_waves(const comm::MessageLog& log) {
  using enum comm::MessageName::Part;
  int64_t early = 0;
  for (const comm::Message& sent : log.messages)
    for (const comm::Message& back : log.messages)
      early += (sent.name.part == gather || sent.name.part == dispatch) && sent.name.chunk == 0 &&
               (back.name.part == scatter || back.name.part == combine) &&
               back.name.layer + 1 == sent.name.layer && sent.launched < back.arrived;
  return early;
}

TEST(OwnSequencesWaves, FillWaitsWithAttentionAndLeaveOneByOne) {
  for (const auto transport : {Transport::all_gather, Transport::all_to_all}) {
    std::atomic<int64_t> early = 0;
    Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
      const at::NoGradGuard no_grad;
      const auto late =
          comm::delayed(rendezvous.all(), rendezvous.rank(), std::chrono::milliseconds(40));
      const model::Model model = model::load_model(golden_directory("deepseek_v2"), at::kFloat,
                                                   at::kCPU, model::Residence::mapped,
                                                   model::Share::of_experts(rendezvous.rank(), 2));
      model::ExpertRanks ranks{.courier = std::make_shared<comm::Courier>(late, rendezvous.all()),
                               .transport = transport,
                               .waves = 2,
                               .wave_tokens = 8};
      for (const auto execution : {Execution::blocking, Execution::overlapped}) {
        ranks.execution = execution;
        model::KvCache cache(model.config, 1, kLength, model.dtype);
        PartLog log;
        ForwardOptions options{.connectivity = variant("farskip", model.config.depth()),
                               .ranks = ranks,
                               .cache = &cache};
        options.parts = &log;
        const auto choose = [](int64_t layer, int64_t tokens, const model::RouterConfig& router) {
          return model::synthetic_experts(model::Routing::uniform, tokens, router, layer);
        };
        options.choose = choose;
        options.on_routing = [&](int64_t layer, const model::Routes& routes) {
          // Waves are parts of one choice.
          EXPECT_TRUE(
              routes.experts.equal(choose(layer, kLength, model.config.layers[layer].moe->router)));
        };
        comm::MessageLog messages;
        ranks.courier->record(&messages);
        auto batch = model::Batch::whole(tokens_of(0).unsqueeze(0));
        batch.segments[0].pages = {0};
        forward(model, batch, options);
        log.leave();
        ranks.courier->record(nullptr);
        if (execution == Execution::overlapped)
          early += early_waves(messages);
        else
          EXPECT_EQ(early_waves(messages), 0);
        int64_t before = 0;
        for (const auto& [layer, pieces] : pieces_of(log)) {
          if (!model.config.layers[layer].moe) continue;
          EXPECT_EQ(pieces.all, 6);  // of half a wave
          before += pieces.before;
        }
        // Blocking, nothing is waited for where attention could go on.
        EXPECT_EQ(before > 0, execution == Execution::overlapped);
      }
    });
    EXPECT_GT(early, 0);
  }
}

TEST(OwnSequencesWaves, LongSumsComeBackInPieces) {
  constexpr int64_t kRows[] = {80, 100}, kWaves = 2;
  const auto load = [](const model::Share& share) {
    return model::load_model(golden_directory("deepseek_v2"), at::kFloat, at::kCPU,
                             model::Residence::mapped, share);
  };
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = some_tokens(kRows[0] + kRows[1], kLength);
  const auto connectivity = variant("farskip", 4);
  const at::Tensor expected =
      forward(load({}), model::Batch::whole(tokens), {.connectivity = connectivity});
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    const at::NoGradGuard no_grad;
    const int64_t rank = rendezvous.rank(), first = rank == 0 ? 0 : kRows[0];
    const model::Model model = load(model::Share::of_experts(rank, 2));
    const auto courier = std::make_shared<comm::Courier>(
        comm::delayed(rendezvous.all(), rank, std::chrono::microseconds(500)), rendezvous.all());
    std::vector<at::Tensor> found;
    for (const auto execution : {Execution::overlapped, Execution::blocking}) {
      comm::MessageLog log;
      courier->record(&log);
      found.push_back(forward(model, model::Batch::whole(tokens.narrow(0, first, kRows[rank])),
                              {.connectivity = connectivity,
                               .ranks = {.courier = courier,
                                         .transport = Transport::all_gather,
                                         .execution = execution,
                                         .waves = kWaves}}));
      courier->record(nullptr);
      std::set<int64_t> chunks;  // of both waves, each in two pieces
      for (const comm::Message& message : log.messages)
        if (message.name.part == comm::MessageName::Part::scatter && message.name.layer == 1)
          chunks.insert(message.name.chunk);
      EXPECT_EQ(chunks, (std::set<int64_t>{0, 1, 2, 3}));
    }
    const at::Tensor own = expected.narrow(0, first * kLength, kRows[rank] * kLength);
    EXPECT_LT(relative_error(found[0], own), 1e-4);
    EXPECT_TRUE(found[0].equal(found[1]));
  });
}

TEST(OwnSequencesOfNobody, AreRefusedOnOneRank) {
  const model::Model model = model::load_model(golden_directory("qwen3_moe"), at::kFloat);
  const auto none = model::Batch::whole(at::empty({0, 4}, at::kLong));
  EXPECT_THROW(
      forward(model, none, {.connectivity = model::Connectivity::regular(model.config.depth())}),
      InputError);
}

}  // namespace
}  // namespace farskip::schedule
