// What one training step learns from: a text (pretraining) or a teacher (distillation).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "model/model.h"
#include "schedule/forward.h"
#include "train/evaluate.h"
#include "train/loader.h"
#include "train/loss.h"

namespace farskip::train {

/// What one micro-batch added to the gradients.
struct MicroStep {
  double loss = 0;       ///< weight x sum over its positions
  double auxiliary = 0;  ///< load-balancing loss, already scaled
  bool finite = true;
};

struct Validation {
  double loss = 0;  ///< of the task's own objective, a mean over the positions that count
  Evaluation figures;
};

/// A forward pass whose backward pass is still to come.
class Pass {
 public:
  virtual ~Pass() = default;
  /// Loss and backward pass: adds to the gradients of the model. Once.
  virtual MicroStep finish() = 0;
};

class Task {
 public:
  virtual ~Task() = default;
  /// Forward. `weight` is 1 / (positions that count in the accumulated batch), `share` this
  /// micro-batch's part of its rows. The task must outlive the pass.
  virtual std::unique_ptr<Pass> forward(const Rows& rows, double weight, double share) = 0;
  /// After an update, or in place of one that was skipped. Every rank calls it, and validate().
  virtual void after_step(bool updated) {}
  virtual Validation validate(const Rows& rows) = 0;
  /// Floating-point operations a token, forward and backward: 2 a weight that the token meets and
  /// forward pass, without attention's products of queries and keys.
  virtual double flops_per_token() const = 0;
};

enum class Balance {
  none,
  auxiliary,  ///< alpha sum over experts of f_e P_e (DeepSeek-V2): f_e the share of choices times
              ///< experts, P_e the mean score, in each sequence if `by_sequence`
  bias,       ///< after each update the selection bias of an expert that got less than the mean
              ///< load rises by `rate`, that of one with more falls (DeepSeek-V3)
};

struct BalanceOptions {
  Balance kind = Balance::none;
  double alpha = 0;
  bool by_sequence = true;
  double rate = 1e-3;
};

/// Next-token cross entropy. `model` is trained in place and must outlive the task.
/// `world`: the ranks that train it together, each on rows of its own.
std::unique_ptr<Task> pretraining(model::Model& model, schedule::ForwardOptions forward,
                                  const BalanceOptions& balance, const comm::Group& world = {});

struct DistillationOptions {
  enum class Loss { kl, cross_entropy, kl_and_l2 } loss = Loss::kl;
  double l2_weight = 0;    ///< of the squared distances of x_1..x_L
  double temperature = 1;  ///< of the KL
};

/// FCSD (arXiv 2511.11505, section 4): the student learns the teacher's distribution over the next
/// token. Both models must outlive the task; the teacher is only read.
std::unique_ptr<Task> distillation(const model::Model& teacher,
                                   schedule::ForwardOptions teacher_forward, model::Model& student,
                                   schedule::ForwardOptions student_forward,
                                   const DistillationOptions& options,
                                   const comm::Group& world = {});

/// DeepSeek-V2's balance loss of one layer and its graph: `sequences` equally long ones.
at::Tensor balance_loss(const model::Routes& routes, int64_t sequences);

/// Weights that one token meets: all but the embedding, of the experts top_k.
double active_weights(const model::Model& model);

}  // namespace farskip::train
