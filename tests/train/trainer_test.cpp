// Whole runs of tiny models: they learn, survive interruptions with the same bits, stop when told.
#include "train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "support.h"
#include "util/error.h"

namespace farskip::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class FaultyPass : public Pass {
 public:
  FaultyPass(std::unique_ptr<Pass> pass, bool bad) : pass_(std::move(pass)), bad_(bad) {}
  MicroStep finish() override {
    MicroStep step = pass_->finish();
    step.finite = step.finite && !bad_;
    return step;
  }

 private:
  std::unique_ptr<Pass> pass_;
  bool bad_;
};

/// Passes on to another task, but dies in front of a micro-batch, or returns numbers that are not
/// finite.
class Faulty : public Task {
 public:
  Faulty(Task& task, int64_t die_at, int64_t bad_from = -1, int64_t bad_to = -1)
      : task_(task), die_at_(die_at), bad_from_(bad_from), bad_to_(bad_to) {}
  std::unique_ptr<Pass> forward(const Rows& rows, double weight, double share) override {
    if (calls_ == die_at_) throw Error("killed");
    const bool bad = calls_ >= bad_from_ && calls_ < bad_to_;
    ++calls_;
    return std::make_unique<FaultyPass>(task_.forward(rows, weight, share), bad);
  }
  void after_step(bool updated) override { task_.after_step(updated); }
  Validation validate(const Rows& rows) override { return task_.validate(rows); }
  double flops_per_token() const override { return task_.flops_per_token(); }

 private:
  Task& task_;
  int64_t die_at_, bad_from_, bad_to_, calls_ = 0;
};

struct Setting {
  const char* model;
  at::ScalarType dtype;
  bool distil;
  bool freeze = false;
};

/// All that a run needs, made afresh from files, as a new process would.
class Session {
 public:
  Session(const Setting& setting, const fs::path& text)
      : setting_(setting),
        teacher_(model::load_model(golden(setting.model), setting.dtype)),
        student_(teacher_.trainable(setting.freeze)),
        connectivity_(model::ConnectivityKind::farskip, {0, teacher_.config.depth()},
                      teacher_.config.depth()),
        codec_(byte_codec()),
        pieces_({text}, 200),
        loader_(pieces_, codec_, 4, 16, 5) {
    const schedule::ForwardOptions forward{.connectivity = connectivity_};
    schedule::ForwardOptions regular = forward;
    regular.connectivity = model::Connectivity::regular(teacher_.config.depth());
    const bool biased = std::string(setting.model) == "deepseek_v3";
    task_ = setting.distil
                ? distillation(teacher_, regular, student_, forward, {})
                : pretraining(student_, forward,
                              {.kind = biased ? Balance::bias : Balance::auxiliary, .alpha = 0.01});
    validation_ = first_rows(pieces_, codec_, 16, 64);
  }

  TrainerResult go(const fs::path& out, TrainerOptions options, bool resume = false,
                   Faulty* faulty = nullptr) {
    options.micro_rows = 2;
    RunDirectory directory(out, resume);
    Trainer trainer(student_, connectivity_, faulty ? *faulty : *task_, loader_, &validation_,
                    directory, options);
    if (resume) trainer.resume();
    return trainer.run();
  }
  Task& task() { return *task_; }
  model::Model& student() { return student_; }
  const model::Model& teacher() const { return teacher_; }

 private:
  Setting setting_;
  model::Model teacher_, student_;
  model::Connectivity connectivity_;
  TextCodec codec_;
  Pieces pieces_;
  Loader loader_;
  std::unique_ptr<Task> task_;
  Rows validation_;
};

TrainerOptions options(int64_t steps) {
  TrainerOptions options;
  options.rate = {.peak = 3e-3, .final = 1e-4, .warmup = 2, .steps = steps};
  options.eval_every = 2;
  options.checkpoint_every = 2;
  return options;
}

std::string text() {
  std::string text;
  for (int i = 0; i < 120; ++i) text += "the quick fox number " + std::to_string(i % 7) + "\n";
  return text;
}

std::string slurp(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Resume : public testing::TestWithParam<Setting> {};

TEST_P(Resume, GoesOnWithTheSameBits) {
  at::set_num_threads(1);
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  Session whole(GetParam(), data);
  whole.go(folder / "whole", options(8));

  {  // dies in the second micro-batch of step 6, after the checkpoint of step 4
    Session broken(GetParam(), data);
    Faulty faulty(broken.task(), 2 * 5 + 1);
    EXPECT_THROW(broken.go(folder / "broken", options(8), false, &faulty), Error);
  }
  fs::create_directory(folder / "broken" / "checkpoints" / "step-6.partial");  // killed in a write
  std::ofstream(folder / "broken" / "metrics.jsonl", std::ios::app) << "{\"step\": 6, \"lo";
  Session resumed(GetParam(), data);
  resumed.go(folder / "broken", options(8), /*resume=*/true);

  const auto expected = whole.student().parameters(), found = resumed.student().parameters();
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(found[i]->value.equal(expected[i]->value)) << expected[i]->name;
  for (const char* file : {"training.safetensors", "training.json"})
    EXPECT_EQ(slurp(folder / "broken" / "checkpoints" / "step-8" / file),
              slurp(folder / "whole" / "checkpoints" / "step-8" / file))
        << file;
  EXPECT_FALSE(fs::exists(folder / "broken" / "checkpoints" / "step-6.partial"));

  std::ifstream metrics(folder / "broken" / "metrics.jsonl");
  std::vector<int64_t> steps;
  for (std::string line; std::getline(metrics, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record.contains("loss")) steps.push_back(record["step"].get<int64_t>());
  }
  EXPECT_THAT(steps, testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(slurp(folder / "broken" / "loss.svg"), HasSubstr("validation"));
}

INSTANTIATE_TEST_SUITE_P(Settings, Resume,
                         testing::Values(Setting{"deepseek_v2", at::kFloat, true},
                                         Setting{"qwen3_moe", at::kBFloat16, true, true},
                                         Setting{"deepseek_v3", at::kBFloat16, false}));

TEST(Trainer, LossFallsAndCheckpointsAreKeptAsAsked) {
  at::set_num_threads(1);
  const Folder folder;
  Session run({"deepseek_v2", at::kFloat, false}, folder.file("text.txt", text()));
  TrainerOptions settings = options(60);
  settings.rate.peak = 1e-2;
  settings.checkpoint_every = 10;
  settings.eval_every = 30;
  const TrainerResult result = run.go(folder / "out", settings);
  EXPECT_EQ(result.steps, 60);
  EXPECT_LT(result.loss, 1.5);  // from ln 99 = 4.6
  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(folder / "out" / "checkpoints"))
    kept.push_back(entry.path().filename().string());
  EXPECT_THAT(kept, UnorderedElementsAre("step-60", "step-50", "latest"));
  EXPECT_THROW(RunDirectory(folder / "out", false), InputError);
  EXPECT_THROW(RunDirectory(folder / "elsewhere", true), InputError);
}

TEST(Trainer, DistillationMovesTheStudentAndNotTheTeacher) {
  at::set_num_threads(1);
  const Folder folder;
  Session run({"qwen3_moe", at::kFloat, true, /*freeze=*/true}, folder.file("text.txt", text()));
  const at::Tensor router = run.teacher().weights.layers.back().moe.router.value.clone();
  const double before =
      run.task().validate(first_rows(Pieces({folder / "text.txt"}), byte_codec(), 16, 64)).loss;
  TrainerOptions settings = options(30);
  const TrainerResult result = run.go(folder / "out", settings);
  EXPECT_GT(before, 0);
  EXPECT_LT(*result.best, 0.7 * before);
  EXPECT_TRUE(run.teacher().weights.layers.back().moe.router.value.equal(router));
  EXPECT_TRUE(run.student().weights.embedding.value.is_same(run.teacher().weights.embedding.value));
}

TEST(Trainer, SkipsStepsThatAreNotFiniteAndEndsAfterThree) {
  at::set_num_threads(1);
  const Folder folder;
  const fs::path data = folder.file("text.txt", text());
  const Setting setting{"deepseek_v2", at::kFloat, true};
  Session run(setting, data);
  Faulty twice(run.task(), -1, 2, 4);  // step 2 in its first micro-batch, step 3 too
  EXPECT_EQ(run.go(folder / "out", options(6), false, &twice).steps, 6);
  EXPECT_THAT(slurp(folder / "out" / "metrics.jsonl"), HasSubstr("\"skipped\":true"));
  Session bad(setting, data);
  Faulty always(bad.task(), -1, 2, 1000);
  try {
    bad.go(folder / "bad", options(20), false, &always);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("3 steps in a row"));
  }
  for (const model::Parameter* parameter : bad.student().parameters())
    EXPECT_TRUE(parameter->value.isfinite().all().item<bool>());
}

TEST(Trainer, StopsEarlyOnACommandsScoreAndReturnsTheBest) {
  at::set_num_threads(1);
  const Folder folder;
  Session run({"deepseek_v2", at::kFloat, true}, folder.file("text.txt", text()));
  // Scores 1, 2, 2, 2, ... by the number of times it was asked.
  const fs::path command =
      folder.file("score.sh",
                  "test -f $1/config.json || exit 3\necho x >> $(dirname $0)/asked\n"
                  "n=$(wc -l < $(dirname $0)/asked)\necho talk\necho $((n < 2 ? n : 2))\n");
  TrainerOptions settings = options(40);
  settings.checkpoint_every = 0;
  settings.eval_command = "sh " + command.string();
  settings.higher_is_better = true;
  settings.patience = 3;
  const TrainerResult result = run.go(folder / "out", settings);
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.steps, 10);
  EXPECT_EQ(*result.best, 2);
  EXPECT_EQ(slurp(folder / "out" / "checkpoints" / "best"), "step-4\n");
  const model::Model best = model::load_model(folder / "out" / "checkpoints" / "step-4");
  EXPECT_TRUE(run.student().weights.head.value.equal(best.weights.head.value));
}

TEST(EarlyStopping, CountsRelativeGains) {
  EarlyStopping stopping(2, 0.1, false);
  EXPECT_TRUE(stopping.update(1));
  EXPECT_FALSE(stopping.update(0.95));
  EXPECT_TRUE(stopping.update(0.85));
  EXPECT_FALSE(stopping.update(std::numeric_limits<double>::quiet_NaN()));
  EXPECT_FALSE(stopping.stop());
  EarlyStopping restored(2, 0.1, false);
  restored.restore(nlohmann::json::parse(stopping.state().dump()));
  EXPECT_FALSE(restored.update(0.8));
  EXPECT_TRUE(restored.stop());
}

}  // namespace
}  // namespace farskip::train
