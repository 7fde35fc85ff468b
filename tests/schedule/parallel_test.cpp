// Experts spread over ranks: the same function as one rank's, and the same bits however messages
// travel.
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "schedule/forward.h"
#include "support/golden.h"
#include "train/loss.h"
#include "train/task.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

using namespace farskip::test;
using comm::Group;
using comm::Rendezvous;

/// What a pass over some rows gives: loss, and the gradient of every parameter by name. Those of
/// experts are this rank's; the others are summed over the ranks.
struct Outcome {
  double loss = 0;
  at::Tensor logits;  ///< of all rows
  std::map<std::string, at::Tensor> gradients;
};

struct Setting {
  std::string connectivity;
  at::ScalarType dtype = at::kDouble;
  Execution execution = Execution::overlapped;
  int64_t queue_bytes = 0;  ///< of weight gradients that may wait
  bool late = false;        ///< messages are
  bool recompute = false;
  int64_t waves = 1;
  model::Combine combine = model::Combine::expert;
};

/// The groups of one rank.
struct Groups {
  explicit Groups(Rendezvous& rendezvous)
      : rank(rendezvous.rank()),
        size(rendezvous.size()),
        rows(rendezvous.all()),
        counts(rendezvous.all()),
        sums(rendezvous.all()) {}
  int64_t rank, size;
  Group rows, counts, sums;
};

/// Distillation of the golden model into another connectivity, each rank on its part of the rows.
Outcome distil(const std::string& name, const Setting& setting, const at::Tensor& tokens,
               const Groups& groups) {
  const int64_t rank = groups.rank, size = groups.size;
  const Group rows = setting.late
                         ? comm::delayed(groups.rows, 17 + rank, std::chrono::milliseconds(1))
                         : groups.rows;
  model::ExpertRanks ranks{
      .execution = setting.execution, .waves = setting.waves, .combine = setting.combine};
  if (size > 1) ranks.courier = std::make_shared<comm::Courier>(rows, groups.counts);
  if (setting.queue_bytes > 0)
    ranks.queue = std::make_shared<model::GradientQueue>(setting.queue_bytes);

  const model::Model teacher =
      model::load_model(golden_directory(name), setting.dtype, at::kCPU, model::Residence::mapped,
                        model::Share::of_experts(rank, size));
  model::Model student = teacher.trainable();
  student.defer_gradients(ranks.queue);
  const int64_t depth = teacher.config.depth();
  const auto task = train::distillation(
      teacher, {.connectivity = model::Connectivity::regular(depth), .ranks = ranks}, student,
      {.connectivity = variant(setting.connectivity, depth),
       .ranks = ranks,
       .recompute = setting.recompute},
      {.loss = setting.connectivity == "regular" ? train::DistillationOptions::Loss::cross_entropy
                                                 : train::DistillationOptions::Loss::kl,
       .temperature = 2});

  const int64_t each = tokens.size(0) / size;
  const at::Tensor own = tokens.narrow(0, rank * each, each);
  const train::Rows batch{own, at::roll(own, -1, 1), at::ones_like(own, at::kBool)};
  Outcome outcome;
  {
    const at::NoGradGuard no_grad;
    outcome.logits = logits(
        student, forward(student, model::Batch::whole(own),
                         {.connectivity = variant(setting.connectivity, depth), .ranks = ranks}));
    outcome.logits = groups.sums.all_gather("logits", outcome.logits).wait();
  }
  outcome.loss =
      task->forward(batch, 1.0 / static_cast<double>(tokens.numel()), 1.0 / size)->finish().loss;
  if (ranks.queue) ranks.queue->drain();
  if (ranks.courier) {  // the second call gives what is there now: a pass leaves nothing behind
    EXPECT_GT(ranks.courier->take_peak_bytes(), 0);
    EXPECT_EQ(ranks.courier->take_peak_bytes(), 0);
  }
  if (ranks.queue) {
    EXPECT_LE(ranks.queue->take_peak_bytes(), setting.queue_bytes);
    EXPECT_EQ(ranks.queue->bytes(), 0);
  }
  // One message for all that is held by every rank: the loss and most gradients.
  std::vector<model::Binding> bindings =
      model::bind(student.weights, student.config, student.share);
  std::vector<at::Tensor> alike{at::full({1}, outcome.loss, at::kDouble)};
  for (const model::Binding& binding : bindings)
    if (binding.parameter->trained() && !binding.experts)
      alike.push_back(binding.parameter->gradient.flatten().to(at::kDouble));
  const at::Tensor sums = groups.sums.all_reduce("sums", at::cat(alike)).wait();
  outcome.loss = sums[0].item<double>();
  int64_t next = 1;
  for (const model::Binding& binding : bindings) {
    if (!binding.parameter->trained()) continue;
    at::Tensor gradient = binding.parameter->gradient;
    if (!binding.experts) {
      gradient = sums.narrow(0, next, gradient.numel()).view(gradient.sizes());
      next += gradient.numel();
    }
    for (const model::Piece& piece : binding.pieces)
      outcome.gradients[piece.name] = binding.view(gradient, piece).clone();
  }
  return outcome;
}

/// All gradients of all ranks, setting by setting.
std::vector<Outcome> over_ranks(int64_t size, const std::string& name,
                                const std::vector<Setting>& settings, const at::Tensor& tokens) {
  std::vector<std::vector<Outcome>> found(size);
  Rendezvous::threads(size, [&](Rendezvous& rendezvous) {
    const Groups groups(rendezvous);
    for (const Setting& setting : settings)
      found[rendezvous.rank()].push_back(distil(name, setting, tokens, groups));
  });
  for (size_t i = 0; i < settings.size(); ++i)
    for (const auto& one : found)
      found[0][i].gradients.insert(one[i].gradients.begin(), one[i].gradients.end());
  return found[0];
}

at::Tensor some_tokens(const std::string& name, int64_t rows) {
  const at::Tensor tokens = golden_values(name).at("tokens");
  return (tokens.repeat({(rows + 1) / 2, 1}).narrow(0, 0, rows).narrow(1, 0, 12) -
          at::arange(rows).unsqueeze(1).remainder(3))
      .clamp_min(0);
}

const std::vector<std::string> kConnectivities(std::begin(kVariants), std::end(kVariants));

class Parallel : public testing::TestWithParam<std::string> {};

TEST_P(Parallel, ComputesWhatOneRankComputes) {
  const at::Tensor tokens = some_tokens(GetParam(), 4);
  std::vector<Setting> settings;
  for (const std::string& connectivity : kConnectivities) {
    settings.push_back({connectivity});
    settings.back().waves = 1 + static_cast<int64_t>(settings.size()) % 3;
    if (settings.size() % 2 == 0) settings.back().combine = model::Combine::rank;
  }
  settings.push_back({"farskip"});
  settings.back().combine = model::Combine::rank;
  const auto one = over_ranks(1, GetParam(), settings, tokens);
  for (const int64_t size : {2, 4}) {
    const auto many = over_ranks(size, GetParam(), settings, tokens);
    for (size_t i = 0; i < settings.size(); ++i) {
      SCOPED_TRACE(util::concat(settings[i].connectivity, ", ", size, " ranks"));
      EXPECT_LT(relative_error(many[i].logits, one[i].logits), 1e-9);
      EXPECT_NEAR(many[i].loss, one[i].loss, 1e-9 * std::abs(one[i].loss));
      ASSERT_EQ(many[i].gradients.size(), one[i].gradients.size());
      for (const auto& [name, expected] : one[i].gradients) {
        const double most = expected.abs().max().item<double>();
        EXPECT_LE((many[i].gradients.at(name) - expected).abs().max().item<double>(),
                  1e-9 * most + 1e-12)
            << name;
      }
    }
  }
}

TEST_P(Parallel, EveryExecutionGivesTheSameBits) {
  const at::Tensor tokens = some_tokens(GetParam(), 4);
  for (const int64_t size : {1, 2, 4}) {
    std::vector<Setting> settings;
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const std::string& connectivity : kConnectivities) {
        settings.push_back({connectivity, dtype, Execution::blocking});
        settings.push_back({connectivity, dtype, Execution::overlapped, 1 << 30, true});
        settings.push_back({connectivity, dtype, Execution::overlapped, 20000, true, true});
        if (connectivity != "farskip" || dtype != at::kFloat) continue;
        settings.push_back({connectivity, dtype, Execution::overlapped, 0, false});
        settings.push_back({connectivity, dtype, Execution::blocking, 0, false, true});
      }
      if (dtype == at::kFloat)  // bits depend on the waves: half of the settings with one, half two
        for (Setting& setting : settings) setting.waves = 2;
      else
        for (Setting& setting : settings)
          if (setting.dtype == dtype) setting.combine = model::Combine::rank;
    }
    const auto found = over_ranks(size, GetParam(), settings, tokens);
    const Outcome* blocking = nullptr;
    for (size_t i = 0; i < settings.size(); ++i) {
      const Setting& setting = settings[i];
      if (setting.execution == Execution::blocking && !setting.recompute) blocking = &found[i];
      SCOPED_TRACE(util::concat(setting.connectivity, ", ", size, " ranks, ",
                                at::toString(setting.dtype), ", ", setting.waves, " waves, queue ",
                                setting.queue_bytes, setting.recompute ? ", recomputed" : ""));
      EXPECT_EQ(found[i].loss, blocking->loss);
      EXPECT_TRUE(found[i].logits.equal(blocking->logits));
      for (const auto& [name, expected] : blocking->gradients)
        EXPECT_TRUE(found[i].gradients.at(name).equal(expected)) << name;
    }
  }
}

TEST(ParallelShapes, FewerTokensThanChunksAndRanksWithoutATokenForThem) {
  const std::string name = "deepseek_v3";
  const at::Tensor tokens = some_tokens(name, 4).narrow(1, 0, 3);
  const std::vector<Setting> settings = {
      {"farskip"},
      {"farskip", at::kDouble, Execution::overlapped, 1 << 20, true, true, 3},
      {.connectivity = "farskip", .recompute = true, .combine = model::Combine::rank}};
  const auto one = over_ranks(1, name, settings, tokens),
             many = over_ranks(4, name, settings, tokens);
  for (size_t i = 0; i < settings.size(); ++i) {
    EXPECT_LT(relative_error(many[i].logits, one[i].logits), 1e-9);
    for (const auto& [parameter, expected] : one[i].gradients)
      EXPECT_LE((many[i].gradients.at(parameter) - expected).abs().max().item<double>(),
                1e-9 * expected.abs().max().item<double>() + 1e-12)
          << parameter;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Parallel, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::schedule
