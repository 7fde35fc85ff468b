// FCSD: the converted model learns from the original one.
#include <ATen/ATen.h>

#include <cmath>

#include "train/task.h"

namespace farskip::train {
namespace {

using Loss = DistillationOptions::Loss;

class Distillation : public Task {
 public:
  Distillation(const model::Model& teacher, schedule::ForwardOptions teacher_forward,
               model::Model& student, schedule::ForwardOptions student_forward,
               const DistillationOptions& options, const comm::Group& world)
      : teacher_(teacher),
        student_(student),
        teacher_forward_(std::move(teacher_forward)),
        student_forward_(std::move(student_forward)),
        options_(options),
        world_(world) {}

  std::unique_ptr<Pass> forward(const Rows& rows, double weight, double share) override;

  Validation validate(const Rows& rows) override {
    std::vector<at::Tensor> teacher_x, student_x;
    double l2 = 0;
    EvaluateOptions options;
    options.temperature = options_.temperature;
    options.world = world_;
    if (options_.loss == Loss::kl_and_l2)
      options.on_part = [&](const Rows& part) {
        l2 +=
            hidden_l2(student_x, teacher_x, part.selected().to(student_.device), options_.l2_weight)
                .loss;
        teacher_x.clear();
        student_x.clear();
      };
    const Subject teacher{teacher_, collecting(teacher_forward_, teacher_x)};
    const Evaluation figures =
        evaluate({student_, collecting(student_forward_, student_x)}, &teacher, rows, options);
    if (options_.loss == Loss::cross_entropy) return {figures.loss, figures};
    l2 = world_.all_reduce("hidden L2", at::full({1}, l2, at::kDouble)).wait().item<double>();
    return {*figures.kl + l2 / static_cast<double>(figures.tokens), figures};
  }

  double flops_per_token() const override {
    const bool taught = options_.loss != Loss::cross_entropy;
    return 6 * active_weights(student_) + (taught ? 2 * active_weights(teacher_) : 0);
  }

 private:
  friend class TaughtPass;
  /// Forward options that keep x_1..x_L where the loss needs them.
  schedule::ForwardOptions collecting(schedule::ForwardOptions forward,
                                      std::vector<at::Tensor>& kept) const {
    if (options_.loss == Loss::kl_and_l2)
      forward.on_residual = [&kept](int64_t k, const at::Tensor& x) {
        if (k > 0) kept.push_back(x);
      };
    return forward;
  }
  HeadInput head_input(const at::Tensor& hidden, const at::Tensor& teacher_hidden,
                       const Rows& part) const {
    return {.hidden = hidden,
            .head = student_.weights.head.value,
            .teacher_hidden = teacher_hidden,
            .teacher_head = teacher_.weights.head.value,
            .targets = part.targets.to(student_.device),
            .rows = part.selected().to(student_.device),
            .temperature = options_.temperature};
  }

  const model::Model& teacher_;
  model::Model& student_;
  schedule::ForwardOptions teacher_forward_, student_forward_;
  DistillationOptions options_;
  comm::Group world_;
};

class TaughtPass : public Pass {
 public:
  TaughtPass(const Distillation& task, const Rows& rows, double weight)
      : task_(task), rows_(rows), weight_(weight) {
    const auto batch = model::Batch::whole(rows.tokens.to(task.student_.device));
    if (task.options_.loss != Loss::cross_entropy) {
      at::NoGradGuard no_grad;
      taught_.emplace(schedule::begin_forward(task.teacher_, batch,
                                              task.collecting(task.teacher_forward_, teacher_x_)));
    }
    ending_.emplace(schedule::begin_forward(task.student_, batch,
                                            task.collecting(task.student_forward_, student_x_)));
  }

  MicroStep finish() override {
    const DistillationOptions& options = task_.options_;
    const auto objective =
        options.loss == Loss::cross_entropy ? Objective::cross_entropy : Objective::kl;
    MicroStep step;
    for (int64_t c = 0; c < ending_->chunks(); ++c) {
      const at::Tensor teacher_hidden = taught_ ? taught_->hidden(c) : at::Tensor();
      HeadInput input = task_.head_input(ending_->hidden(c), teacher_hidden,
                                         rows_.part(ending_->begin(c), ending_->begin(c + 1)));
      input.halfway = [&] { ending_->pause(c); };
      const HeadLoss head = head_loss(input, task_.student_.weights.head, objective, weight_);
      ending_->gradient(c, head.grad_hidden);
      step.loss += head.loss;
    }
    HiddenLoss l2;
    if (options.loss == Loss::kl_and_l2) {
      l2 = hidden_l2(student_x_, teacher_x_, rows_.selected().to(task_.student_.device),
                     weight_ * options.l2_weight);
      step.loss += l2.loss;
    }
    step.finite = std::isfinite(step.loss);
    ending_->backward(student_x_, l2.grads);
    return step;
  }

 private:
  const Distillation& task_;
  Rows rows_;
  double weight_;
  std::vector<at::Tensor> teacher_x_, student_x_;
  std::optional<schedule::Ending> taught_, ending_;
};

std::unique_ptr<Pass> Distillation::forward(const Rows& rows, double weight, double) {
  return std::make_unique<TaughtPass>(*this, rows, weight);
}

}  // namespace

std::unique_ptr<Task> distillation(const model::Model& teacher,
                                   schedule::ForwardOptions teacher_forward, model::Model& student,
                                   schedule::ForwardOptions student_forward,
                                   const DistillationOptions& options, const comm::Group& world) {
  return std::make_unique<Distillation>(teacher, std::move(teacher_forward), student,
                                        std::move(student_forward), options, world);
}

}  // namespace farskip::train
