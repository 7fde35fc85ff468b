// Training on several ranks: the same curve as on one, the same bits in every execution, a part of
// the optimizer's state on each, and runs that go on with another number of ranks.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/golden.h"
#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "support.h"
#include "train/trainer.h"
#include "util/error.h"

namespace farskip::train {
namespace {

namespace fs = std::filesystem;

struct Setting {
  int64_t ranks = 1, ep = 1;
  model::Execution execution = model::Execution::overlapped;
  bool late = false, recompute = false;
  int64_t queue_bytes = 1 << 20;
  int64_t waves = 2;
  bool interleave = false;
  int64_t bucket_bytes = 8 << 20;  ///< all of these small models
};

struct Plan {
  std::string model;
  at::ScalarType dtype = at::kFloat;
  int64_t steps = 5;
  bool distil = false;
};

/// What is left of a run.
struct Outcome {
  std::map<std::string, at::Tensor> weights;
  std::vector<double> losses, validations;
  int64_t state_bytes = 0;  ///< of the optimizer, on rank 0
  int64_t early = 0;        ///< gradient messages that left during backward passes
};

std::string text() {
  std::string text;
  for (int i = 0; i < 160; ++i) text += "the quick fox number " + std::to_string(i % 7) + "\n";
  return text;
}

void run_rank(const Plan& plan, const Setting& setting, const fs::path& data, const fs::path& out,
              bool resume, comm::Rendezvous& rendezvous, Outcome& outcome) {
  comm::Grid grid = comm::make_grid(rendezvous, setting.ep);
  if (setting.late && grid.courier) {
    const int64_t color = grid.rank() / grid.ep;
    comm::Group rows = rendezvous.split(color), counts = rendezvous.split(color);
    grid.courier = std::make_shared<comm::Courier>(
        comm::delayed(rows, 5 + grid.rank(), std::chrono::milliseconds(1)), counts);
  }
  const auto share = model::Share::of_experts(grid.expert_part(), grid.ep);
  const model::Model teacher =
      model::load_model(golden(plan.model), plan.dtype, at::kCPU, model::Residence::mapped, share);
  model::Model student = teacher.trainable();
  model::ExpertRanks ranks{
      .courier = grid.courier, .execution = setting.execution, .waves = setting.waves};
  if (setting.execution == model::Execution::overlapped && grid.size() > 1)
    ranks.queue = std::make_shared<model::GradientQueue>(grid.courier ? setting.queue_bytes : 0);
  if (setting.interleave) ranks.turns = std::make_shared<model::Turns>();
  student.defer_gradients(ranks.queue);

  const int64_t depth = student.config.depth();
  const model::Connectivity far(model::ConnectivityKind::farskip, {0, depth}, depth);
  const schedule::ForwardOptions forward{
      .connectivity = far, .ranks = ranks, .recompute = setting.recompute};
  const bool biased = plan.model == "deepseek_v3";
  const auto task =
      plan.distil
          ? distillation(teacher,
                         {.connectivity = model::Connectivity::regular(depth), .ranks = ranks},
                         student, forward, {}, grid.world)
          : pretraining(student, forward,
                        {.kind = biased ? Balance::bias : Balance::auxiliary, .alpha = 0.01},
                        grid.world);
  const TextCodec codec = byte_codec();
  const Pieces pieces({data}, 200);
  Loader loader(pieces, codec, 8, 16, 5);
  const Rows validation = first_rows(pieces, codec, 16, 80);
  TrainerOptions options;
  options.micro_rows = 1;
  options.rate = {.peak = 3e-3, .final = 1e-4, .warmup = 2, .steps = plan.steps};
  options.eval_every = options.checkpoint_every = 3;
  options.grid = grid;
  options.queue = ranks.queue;
  options.bucket_bytes = setting.bucket_bytes;
  options.turns = ranks.turns;
  RunDirectory directory(out, resume, grid.world);
  Trainer trainer(student, far, *task, loader, &validation, directory, options);
  if (resume) trainer.resume();
  outcome.losses.push_back(trainer.run().loss);
  for (const model::Binding& binding : model::bind(student.weights, student.config, share))
    for (const model::Piece& piece : binding.pieces)
      outcome.weights[piece.name] = binding.view(binding.parameter->value.detach(), piece).clone();
}

Outcome run(const Plan& plan, const Setting& setting, const fs::path& data, const fs::path& out,
            bool resume = false) {
  const at::AutoGradMode gradients(true);
  std::vector<Outcome> found(setting.ranks);
  comm::Rendezvous::threads(setting.ranks, [&](comm::Rendezvous& rendezvous) {
    run_rank(plan, setting, data, out, resume, rendezvous, found[rendezvous.rank()]);
  });
  for (const Outcome& one : found) found[0].weights.insert(one.weights.begin(), one.weights.end());
  std::ifstream metrics(out / "metrics.jsonl");
  found[0].losses.clear();
  std::map<std::string, int64_t> sent;  // in all steps
  for (std::string line; std::getline(metrics, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record.contains("validation_loss"))
      found[0].validations.push_back(record["validation_loss"].get<double>());
    if (!record.contains("loss")) continue;
    found[0].losses.push_back(record["loss"].get<double>());
    if (record.contains("gradients"))
      found[0].early += record["gradients"]["early_messages"].get<int64_t>();
    if (resume) continue;  // the first steps were made by other ranks
    // Every collective of a step is accounted for.
    for (const auto& [name, ranks] : {std::pair{"experts_forward", setting.ep},
                                      {"experts_backward", setting.ep},
                                      {"gradients", setting.ranks},
                                      {"weights", setting.ranks}}) {
      const bool later = name == std::string("weights") && !record.contains(name);
      EXPECT_TRUE(later || record.contains(name) == (ranks > 1)) << name << " in " << line;
      if (!record.contains(name)) continue;
      const auto& messages = record[name];
      sent[name] += messages["messages"].get<int64_t>();
      EXPECT_GT(messages["bytes"].get<int64_t>(), 0) << line;
      // 0 where a small one was there before its launch had returned.
      EXPECT_GE(messages["communication_ms"].get<double>(), 0) << line;
      EXPECT_GE(messages["hidden"].get<double>(), 0) << line;
      EXPECT_LE(messages["hidden"].get<double>(), 1) << line;
    }
  }
  EXPECT_EQ(sent["weights"], sent["gradients"]) << "a bucket each way in every step";
  return found[0];
}

class Ranks : public testing::TestWithParam<std::string> {};

TEST_P(Ranks, WeightsAfterFiveStepsHaveTheSameBitsInEveryExecution) {
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  const Plan plan{GetParam(), at::kBFloat16};
  using model::Execution;
  for (const int64_t ranks : {2, 4}) {
    const Outcome blocking =
        run(plan, {ranks, ranks, Execution::blocking}, data, folder / std::to_string(ranks));
    int64_t i = 0;
    for (const Setting& setting :
         {Setting{ranks, ranks, Execution::overlapped, true, false, 20000, 2, false, 1000},
          Setting{ranks, ranks, Execution::overlapped, true, true, 0, 2, false, 1000},
          Setting{ranks, ranks, Execution::overlapped, true, ranks == 4, 1 << 20, 2, true}}) {
      const Outcome other = run(plan, setting, data, folder / util::concat(ranks, "-", i++));
      if (setting.bucket_bytes == 1000) {
        EXPECT_GT(other.early, 0) << "buckets of some layers, not of all";
      }
      EXPECT_EQ(other.losses, blocking.losses);
      for (const auto& [name, expected] : blocking.weights)
        EXPECT_TRUE(other.weights.at(name).equal(expected)) << ranks << " ranks: " << name;
    }
  }
}

TEST_P(Ranks, ThatOnlyShareDataReduceDuringTheBackwardPass) {
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  const Plan plan{GetParam(), at::kBFloat16};
  Setting setting{2, 1, model::Execution::blocking};
  setting.bucket_bytes = 1000;
  const Outcome blocking = run(plan, setting, data, folder / "blocking");
  EXPECT_EQ(blocking.early, 0);
  setting.execution = model::Execution::overlapped;
  const Outcome overlapped = run(plan, setting, data, folder / "overlapped");
  EXPECT_GT(overlapped.early, 0);
  EXPECT_EQ(overlapped.losses, blocking.losses);
  for (const auto& [name, expected] : blocking.weights)
    EXPECT_TRUE(overlapped.weights.at(name).equal(expected)) << name;
}

INSTANTIATE_TEST_SUITE_P(Models, Ranks, testing::ValuesIn(test::golden_models()),
                         [](const auto& info) { return info.param; });

TEST(RanksTogether, HaveTheCurveOfOneRank) {
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  for (const char* model : {"deepseek_v2", "deepseek_v3", "qwen3_moe"}) {
    const Plan plan{model, at::kFloat, 12, std::string(model) == "deepseek_v2"};
    const Outcome one = run(plan, {}, data, folder / model / "one");
    ASSERT_EQ(one.losses.size(), 12u);
    Setting interleaved{2, 2};
    interleaved.interleave = true;  // of a distillation, too
    for (const Setting& setting : {interleaved, Setting{4, 4}, Setting{4, 2}, Setting{4, 1}}) {
      SCOPED_TRACE(util::concat(model, ", ", setting.ranks, " ranks, ep ", setting.ep));
      const Outcome many =
          run(plan, setting, data, folder / model / util::concat(setting.ranks, "x", setting.ep));
      ASSERT_EQ(many.losses.size(), one.losses.size());
      for (size_t i = 0; i < one.losses.size(); ++i)
        EXPECT_NEAR(many.losses[i], one.losses[i], 2e-3 * std::abs(one.losses[i])) << "step " << i;
      ASSERT_EQ(many.validations.size(), one.validations.size());
      for (size_t i = 0; i < one.validations.size(); ++i)
        EXPECT_NEAR(many.validations[i], one.validations[i],
                    2e-3 * std::abs(one.validations[i]) + 1e-5);
      EXPECT_NEAR(many.losses[0], one.losses[0], 1e-5 * std::abs(one.losses[0]));
    }
  }
}

TEST(RanksTogether, GoOnWithAnotherNumberOfRanks) {
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  const Plan plan{"deepseek_v3", at::kBFloat16, 6};
  const Outcome whole = run(plan, {2, 2}, data, folder / "whole");
  for (const Setting& setting : {Setting{2, 2}, Setting{1, 1}, Setting{4, 4}, Setting{4, 2}}) {
    const fs::path out = folder / util::concat("from-", setting.ranks, "x", setting.ep);
    fs::copy(folder / "whole", out, fs::copy_options::recursive);
    fs::remove_all(out / "checkpoints" / "step-6");
    std::ofstream(out / "checkpoints" / "latest") << "step-3\n";
    const Outcome resumed = run(plan, setting, data, out, /*resume=*/true);
    ASSERT_EQ(resumed.losses.size(), 6u);
    const bool same = setting.ranks == 2;
    for (size_t i = 3; i < 6; ++i)
      EXPECT_NEAR(resumed.losses[i], whole.losses[i], same ? 0 : 2e-2 * whole.losses[i]);
    if (!same) continue;
    for (const auto& [name, expected] : whole.weights)
      EXPECT_TRUE(resumed.weights.at(name).equal(expected)) << name;
  }
}

TEST(RanksTogether, AddUpALayersGradientsWhileOthersAreComputed) {
  const at::AutoGradMode gradients(true);
  comm::Rendezvous::threads(2, [&](comm::Rendezvous& rendezvous) {
    const comm::Grid grid = comm::make_grid(rendezvous, 1);
    model::Model model = model::load_model(golden("deepseek_v2"), at::kFloat).trainable();
    const auto queue = std::make_shared<model::GradientQueue>(1 << 20);
    const double own = static_cast<double>(grid.rank() + 1);
    for (const model::Parameter* parameter : model.parameters()) parameter->gradient.fill_(own);
    GradientSync sync(model, grid, queue);
    const auto expect_sums = [&] {
      for (const Owned& one : sync.owned())
        EXPECT_TRUE(one.parameter->gradient.view({-1})
                        .slice(0, one.begin, one.end)
                        .eq(3)
                        .all()
                        .item<bool>())
            << one.parameter->name;
    };
    sync.begin();
    // What waits in the queue is not launched, whatever has been passed.
    const at::Tensor& norm = model.weights.final_norm.gradient;
    queue->push(norm, 8, [&] {});
    queue->pass(model.config.depth());
    queue->pass(-1);
    queue->run_one();
    sync.reduce();
    EXPECT_EQ(sync.early(), 3) << "a bucket of experts, one of the embedding, one of the rest";
    expect_sums();
    for (const model::Parameter* parameter : model.parameters()) parameter->gradient.fill_(own);
    sync.begin();
    queue->pass(model.config.depth());
    sync.reduce();
    EXPECT_EQ(sync.early(), 0) << "a bucket with something of the first layers is not whole";
    expect_sums();
  });
}

TEST(RanksTogether, SendOfAnEmbeddingsGradientWhatIsNotZero) {
  const at::AutoGradMode gradients(true);
  comm::Rendezvous::threads(4, [&](comm::Rendezvous& rendezvous) {
    const comm::Grid grid = comm::make_grid(rendezvous, 1);
    model::Model model = model::load_model(golden("deepseek_v2"), at::kFloat).trainable();
    const at::Tensor& gradient = model.weights.embedding.gradient;
    const int64_t words = gradient.size(0), width = gradient.size(1);
    ASSERT_NE(words % 4, 0) << "a rank has fewer rows";
    const auto of_rank = [&](int64_t rank) {  // words 0, 5, 10 .. have none; some only zeros
      at::Tensor rows = at::zeros_like(gradient);
      for (int64_t word = rank; word < words; word += 3)
        if (word % 5 != 0) rows[word] = at::arange(width) - static_cast<double>(word);
      rows[7][2] = 0.1 * static_cast<double>(rank);  // of several ranks
      if (rank == 1) rows[11][0] = std::nan("");
      return rows;
    };
    gradient.copy_(of_rank(grid.rank()));
    GradientSync sync(model, grid);
    comm::MessageLog log;
    sync.record(&log);
    sync.reduce();
    const Owned& own = sync.owned().front();
    ASSERT_EQ(own.parameter, &model.weights.embedding);
    EXPECT_EQ(own.begin % width, 0);
    const auto part = [&](const at::Tensor& of) {
      return of.view({-1}).slice(0, own.begin, own.end);
    };
    const at::Tensor sum = of_rank(0) + of_rank(1) + of_rank(2) + of_rank(3);
    EXPECT_TRUE(at::allclose(part(gradient), part(sum), 0, 0, /*equal_nan=*/true));
    const int64_t rows = of_rank(grid.rank()).ne(0).any(1).sum().item<int64_t>();
    EXPECT_GT(log.messages.back().bytes, 0);
    EXPECT_LT(log.messages.back().bytes, rows * (width + 1) * 4);
  });
}

TEST(RanksTogether, ReadALayersWeightsWhenTheyAreUpdated) {
  const at::AutoGradMode gradients(true);
  for (const int64_t ep : {1, 2})
    comm::Rendezvous::threads(2, [&](comm::Rendezvous& rendezvous) {
      const comm::Grid grid = comm::make_grid(rendezvous, ep);
      const auto share = model::Share::of_experts(grid.expert_part(), ep);
      const auto trained = [&] {
        model::Model model = model::load_model(golden("deepseek_v2"), at::kFloat, at::kCPU,
                                               model::Residence::mapped, share)
                                 .trainable();
        for (const model::Parameter* parameter : model.parameters()) parameter->gradient.fill_(1);
        return model;
      };
      model::Model expected = trained(), model = trained();
      GradientSync at_once(expected, grid);
      AdamW reference(at_once.owned(), {});
      at_once.update(reference, 0.01, 0.5);

      const auto queue = std::make_shared<model::GradientQueue>(0);
      GradientSync sync(model, grid, queue, /*bucket_bytes=*/1000);
      AdamW optimizer(sync.owned(), {});
      const auto wanted = model::bind(expected.weights, expected.config, share);
      const auto found = model::bind(model.weights, model.config, share);
      const auto up_to_date = [&](size_t i) {
        return found[i].parameter->value.equal(wanted[i].parameter->value) &&
               !found[i].parameter->gradient.any().item<bool>();
      };
      const int64_t depth = model.config.depth();
      sync.update(optimizer, 0.01, 0.5);
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_FALSE(up_to_date(i)) << "it only begins: " << found[i].name;
      }
      for (int64_t layer = -1; layer <= depth; ++layer) {
        queue->read(layer);
        for (size_t i = 0; i < found.size(); ++i) {
          if (found[i].layer <= layer && found[i].parameter->trained()) {
            EXPECT_TRUE(up_to_date(i)) << "layer " << layer << ": " << found[i].name;
          }
        }
      }
      EXPECT_FALSE(queue->run_one());
    });
}

TEST(RanksTogether, ShareTheOptimizersState) {
  int64_t alone = 0;
  for (const auto& [ranks, ep] : {std::pair<int64_t, int64_t>{1, 1}, {2, 2}, {4, 2}, {4, 1}}) {
    std::vector<int64_t> bytes(ranks);
    comm::Rendezvous::threads(ranks, [&, ep = ep](comm::Rendezvous& rendezvous) {
      const comm::Grid grid = comm::make_grid(rendezvous, ep);
      model::Model model = model::load_model(golden("deepseek_v2"), at::kBFloat16, at::kCPU,
                                             model::Residence::mapped, {grid.expert_part(), ep})
                               .trainable();
      const GradientSync sync(model, grid);
      bytes[grid.rank()] = AdamW(sync.owned(), {}).state_bytes();
    });
    int64_t sum = 0;
    for (const int64_t one : bytes) sum += one;
    if (ranks == 1) alone = sum;
    EXPECT_EQ(sum, alone) << "every element once";
    EXPECT_LE(*std::max_element(bytes.begin(), bytes.end()), alone / ranks + alone / 50);
  }
}

TEST(RanksTogether, RefuseRowsThatCannotBeSharedOut) {
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  EXPECT_THROW(run({"deepseek_v2"}, {3, 1}, data, folder / "out"), InputError);
}

}  // namespace
}  // namespace farskip::train
