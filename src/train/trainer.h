// The training loop: accumulate, clip, update, evaluate, save, and go on after an interruption with
// the same bits.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "comm/grid.h"
#include "train/early_stopping.h"
#include "train/gradient_sync.h"
#include "train/learning_rate.h"
#include "train/loader.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/run_directory.h"
#include "train/task.h"

namespace farskip::util {
class Progress;
}

namespace farskip::train {

struct TrainerOptions {
  int64_t micro_rows = 1;  ///< sequences in one forward pass; a batch is as many as its loader's
                           ///< rows
  LearningRate rate;       ///< rate.steps is the length of the run
  double clip = 1;         ///< largest global gradient norm; 0 = no clipping
  AdamWOptions adamw;
  int64_t eval_every = 0;        ///< steps; 0 = never
  int64_t checkpoint_every = 0;  ///< steps; 0 = only at the end
  int64_t keep = 2;              ///< checkpoints besides the best one
  int64_t patience = 0;
  double delta = 0;
  std::string eval_command;  ///< a shell command that is given a checkpoint's path as its last word
                             ///< and prints a number as its last line: the score instead of the
                             ///< validation loss
  bool higher_is_better = false;  ///< of that number
  int64_t max_skipped = 3;        ///< steps in a row whose loss or gradient is not finite, after
                                  ///< which the run ends
  std::string title;              ///< of the plot
  std::string loss_name = "loss";
  nlohmann::json identity;  ///< an object; a run is resumed only with the same one
  /// Ranks that train together: each takes its part of every batch, rank 0 talks and writes.
  comm::Grid grid;
  /// Where the model's weight gradients wait (Parameter::queue); null: nowhere.
  std::shared_ptr<model::GradientQueue> queue;
  int64_t bucket_bytes = kBucketBytes;  ///< of gradients that go to the other ranks together
  /// Which the task's forward options have: the forward pass of a micro-batch beside the backward
  /// pass of the one before. Null: one after another.
  std::shared_ptr<model::Turns> turns;
};

struct TrainerResult {
  int64_t steps = 0;
  double loss = 0;  ///< of the last step
  std::optional<double> best;
  bool stopped_early = false;
};

/// Trains `model` in place with the task's gradients.
class Trainer {
 public:
  /// All must outlive the trainer. `validation` may be null. `connectivity` is stamped into what is
  /// saved. Every rank makes one, with the same data and options. InputError unless the ranks share
  /// the loader's rows evenly.
  Trainer(model::Model& model, const model::Connectivity& connectivity, Task& task, Loader& loader,
          const Rows* validation, RunDirectory& directory, TrainerOptions options);

  /// Restores weights, masters, moments, data position, step and best score from the latest
  /// checkpoint.
  void resume();
  /// Bytes of moments and masters that this rank keeps.
  int64_t state_bytes() const { return optimizer_.state_bytes(); }
  /// Runs to the last step, or until patience ends. Error after too many steps that are not finite.
  /// Afterwards, the model has the weights of the best checkpoint if there is a best one (patience
  /// or an evaluation command), else the last ones.
  TrainerResult run();

 private:
  struct StepFigures {
    double loss = 0, auxiliary = 0, norm = 0;
    int64_t learnt = 0;  ///< positions that counted
    bool updated = false;
  };
  StepFigures train_step();
  /// Whether the model is evaluated or saved after so many steps.
  bool looked_at(int64_t step) const;
  bool leads() const { return options_.grid.rank() == 0; }
  /// Most bytes that were held for messages at once since the last call, and what became of the
  /// messages of the step, on this rank.
  void record_messages(nlohmann::ordered_json& record);
  /// Loss, auxiliary loss and whether all is finite, over the ranks.
  void add_up(StepFigures& figures, bool& finite) const;
  /// The score of the command, which rank 0 runs while the others wait.
  double command_score(const std::filesystem::path& checkpoint) const;
  bool evaluates() const { return validation_ || !options_.eval_command.empty(); }
  /// Looks at the model after a step; true if it is the best so far.
  bool evaluate(util::Progress& progress);
  double run_command(const std::filesystem::path& checkpoint) const;
  void write_model(const std::filesystem::path& folder) const;
  void save(bool is_best);
  void load_weights(const std::filesystem::path& checkpoint);

  model::Model& model_;
  const model::Connectivity& connectivity_;
  Task& task_;
  Loader& loader_;
  const Rows* validation_;
  RunDirectory& directory_;
  TrainerOptions options_;
  GradientSync sync_;
  AdamW optimizer_;
  EarlyStopping stopping_;
  std::optional<Metrics> metrics_;
  int64_t step_ = 0;
  int64_t tokens_ = 0;         ///< seen so far
  int64_t skipped_ = 0;        ///< in a row
  comm::MessageLog messages_;  ///< of the step
  bool begun_ = false;         ///< the folder of this step's checkpoint holds the model already
};

}  // namespace farskip::train
