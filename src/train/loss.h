// The language-model head and the loss in one pass over chunks of tokens, with explicit gradients:
// the logits of a whole batch (4,096 x 129,280 float32 = 2.1 GB, several times over) never exist.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "model/parameter.h"

namespace farskip::train {

enum class Objective {
  kl,             ///< tau^2 KL(teacher_tau || student_tau), softmaxes of logits / tau
  cross_entropy,  ///< -log softmax(logits / tau) of the target token
};

/// What is scored. The logits of row i are hidden[i] head^T, in hidden's dtype; everything from the
/// softmax on is float32 (float64 for float64).
struct HeadInput {
  at::Tensor hidden;          ///< [N, H], after the final norm
  at::Tensor head;            ///< [V, H], same dtype
  at::Tensor teacher_hidden;  ///< [N, H'], undefined where nothing is compared with a teacher
  at::Tensor teacher_head;    ///< [V, H']; may be the same tensor as head
  at::Tensor targets;         ///< int64 [N], undefined where there are none
  at::Tensor rows;            ///< int64 [M], distinct: the only rows that count; undefined = all
  double temperature = 1;     ///< tau
  int64_t chunk = 0;          ///< tokens at a time; 0 = as many as make one chunk of float32 logits
                              ///< 16 MiB, but at least 128 (about five such buffers are alive)
  /// Called once, when about half of the work is done; empty: not.
  std::function<void()> halfway = {};
};

/// Sums over the selected rows.
struct HeadSums {
  int64_t rows = 0;
  double kl = 0;             ///< tau^2 KL; 0 without a teacher
  double cross_entropy = 0;  ///< 0 without targets
  int64_t agree = 0;         ///< rows where student and teacher have the same most likely token
  int64_t correct = 0;       ///< rows whose most likely token is the target

  HeadSums& operator+=(const HeadSums& other);
};

struct HeadLoss {
  double loss = 0;         ///< weight x sum over the selected rows
  at::Tensor grad_hidden;  ///< [N, H], dtype of hidden; zero in rows that were not selected
  bool finite = true;  ///< false: loss is infinite or no number, nothing should be learnt from it
};

/// The loss `weight * sum_i l_i` and its gradients: that of the hidden values is returned, that of
/// the head is added to head.gradient chunk by chunk (not at all where the head is frozen).
/// input.head is ignored in favour of head.value. A mean over T tokens is weight = 1 / T.
HeadLoss head_loss(const HeadInput& input, const model::Parameter& head, Objective objective,
                   double weight);

/// All sums that the input allows, without gradients.
HeadSums head_statistics(const HeadInput& input);

/// Squared distance of residual streams: mean over rows of the sum over layers and features of
/// (student - teacher)^2, as in the hidden-state distillation that FCSD is compared with.
struct HiddenLoss {
  double loss = 0;                ///< weight x sum over layers, rows and features
  std::vector<at::Tensor> grads;  ///< one a layer, [N, H], dtype of the student's
};

/// student and teacher: x_1..x_L, each [N, H]; rows as in HeadInput. The mean over T rows is weight
/// = 1 / T.
HiddenLoss hidden_l2(const std::vector<at::Tensor>& student, const std::vector<at::Tensor>& teacher,
                     const at::Tensor& rows, double weight);

}  // namespace farskip::train
