// FCSD: the converted model learns from the original one.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "train/task.h"

namespace farskip::train {
namespace {

using Loss = DistillationOptions::Loss;

class Distillation : public Task {
 public:
  Distillation(const model::Model& teacher, schedule::ForwardOptions teacher_forward,
               model::Model& student, schedule::ForwardOptions student_forward,
               const DistillationOptions& options)
      : teacher_(teacher),
        student_(student),
        teacher_forward_(std::move(teacher_forward)),
        student_forward_(std::move(student_forward)),
        options_(options) {}

  MicroStep backward(const Rows& rows, double weight, double share) override {
    const auto batch = model::Batch::whole(rows.tokens.to(student_.device));
    std::vector<at::Tensor> teacher_x, student_x;
    at::Tensor teacher_hidden;
    if (options_.loss != Loss::cross_entropy) {
      at::NoGradGuard no_grad;
      teacher_hidden = schedule::forward(teacher_, batch, collecting(teacher_forward_, teacher_x));
    }
    const at::Tensor hidden =
        schedule::forward(student_, batch, collecting(student_forward_, student_x));
    const HeadInput input = head_input(hidden, teacher_hidden, rows);
    const HeadLoss head = head_loss(
        input, student_.weights.head,
        options_.loss == Loss::cross_entropy ? Objective::cross_entropy : Objective::kl, weight);
    MicroStep step{head.loss, 0, head.finite};
    std::vector<at::Tensor> roots{hidden}, grads{head.grad_hidden};
    if (options_.loss == Loss::kl_and_l2) {
      HiddenLoss l2 = hidden_l2(student_x, teacher_x, input.rows, weight * options_.l2_weight);
      step.loss += l2.loss;
      step.finite = std::isfinite(step.loss);
      roots.insert(roots.end(), student_x.begin(), student_x.end());
      grads.insert(grads.end(), l2.grads.begin(), l2.grads.end());
    }
    torch::autograd::backward(roots, grads);
    return step;
  }

  Validation validate(const Rows& rows) override {
    at::NoGradGuard no_grad;
    HeadSums sums;
    double l2 = 0;
    std::vector<double> agreement;
    for (int64_t row = 0; row < rows.count(); ++row) {
      const Rows one = rows.slice(row, 1);
      const auto batch = model::Batch::whole(one.tokens.to(student_.device));
      std::vector<at::Tensor> teacher_x, student_x, chosen;
      schedule::ForwardOptions teacher = collecting(teacher_forward_, teacher_x);
      teacher.on_routing = [&](int64_t, const model::Routes& routes) {
        chosen.push_back(routes.experts);
      };
      const at::Tensor teacher_hidden = schedule::forward(teacher_, batch, teacher);
      schedule::ForwardOptions student = collecting(student_forward_, student_x);
      size_t layer = 0;
      agreement.resize(chosen.size());
      student.on_routing = [&](int64_t, const model::Routes& routes) {
        agreement[layer] += route_overlap(chosen[layer], routes.experts);
        ++layer;
      };
      const HeadInput input =
          head_input(schedule::forward(student_, batch, student), teacher_hidden, one);
      sums += head_statistics(input);
      if (options_.loss == Loss::kl_and_l2)
        l2 += hidden_l2(student_x, teacher_x, input.rows, options_.l2_weight).loss;
    }
    const double count = static_cast<double>(std::max<int64_t>(1, sums.rows));
    Validation found;
    found.cross_entropy = sums.cross_entropy / count;
    found.kl = sums.kl / count;
    found.agreement = static_cast<double>(sums.agree) / count;
    found.loss =
        options_.loss == Loss::cross_entropy ? *found.cross_entropy : *found.kl + l2 / count;
    for (const double sum : agreement)
      found.router_agreement.push_back(sum / static_cast<double>(rows.count()));
    return found;
  }

  double flops_per_token() const override {
    const bool taught = options_.loss != Loss::cross_entropy;
    return 6 * active_weights(student_) + (taught ? 2 * active_weights(teacher_) : 0);
  }

 private:
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
                       const Rows& rows) const {
    return {.hidden = hidden,
            .head = student_.weights.head.value,
            .teacher_hidden = teacher_hidden,
            .teacher_head = teacher_.weights.head.value,
            .targets = rows.targets.reshape({-1}).to(student_.device),
            .rows = rows.selected().to(student_.device),
            .temperature = options_.temperature};
  }

  const model::Model& teacher_;
  model::Model& student_;
  schedule::ForwardOptions teacher_forward_, student_forward_;
  DistillationOptions options_;
};

}  // namespace

std::unique_ptr<Task> distillation(const model::Model& teacher,
                                   schedule::ForwardOptions teacher_forward, model::Model& student,
                                   schedule::ForwardOptions student_forward,
                                   const DistillationOptions& options) {
  return std::make_unique<Distillation>(teacher, std::move(teacher_forward), student,
                                        std::move(student_forward), options);
}

}  // namespace farskip::train
