// Next-token cross entropy from scratch, with a balanced load of the experts.
#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "train/task.h"

namespace farskip::train {
namespace {

class TextPass : public Pass {
 public:
  TextPass(model::Model& model, const Rows& rows, double weight, schedule::Ending ending,
           at::Tensor auxiliary)
      : model_(model),
        rows_(rows),
        weight_(weight),
        ending_(std::move(ending)),
        auxiliary_(std::move(auxiliary)) {}

  MicroStep finish() override {
    MicroStep step;
    for (int64_t c = 0; c < ending_.chunks(); ++c) {
      HeadInput scored =
          input(ending_.hidden(c), rows_.part(ending_.begin(c), ending_.begin(c + 1)));
      scored.halfway = [&] { ending_.pause(c); };
      const HeadLoss loss =
          head_loss(scored, model_.weights.head, Objective::cross_entropy, weight_);
      ending_.gradient(c, loss.grad_hidden);
      step.loss += loss.loss;
    }
    step.finite = std::isfinite(step.loss);
    if (auxiliary_.defined() && auxiliary_.requires_grad())
      ending_.backward({auxiliary_}, {at::ones_like(auxiliary_)});
    else
      ending_.backward();
    if (auxiliary_.defined()) step.auxiliary = auxiliary_.item<double>();
    return step;
  }

 private:
  HeadInput input(const at::Tensor& hidden, const Rows& part) const {
    return {.hidden = hidden,
            .head = model_.weights.head.value,
            .targets = part.targets.to(model_.device),
            .rows = part.selected().to(model_.device)};
  }

  model::Model& model_;
  Rows rows_;
  double weight_;
  schedule::Ending ending_;
  at::Tensor auxiliary_;  ///< the balance loss
};

class Pretraining : public Task {
 public:
  Pretraining(model::Model& model, schedule::ForwardOptions forward, const BalanceOptions& balance,
              const comm::Group& world)
      : model_(model), forward_(std::move(forward)), balance_(balance), world_(world) {}

  std::unique_ptr<Pass> forward(const Rows& rows, double weight, double share) override {
    at::Tensor auxiliary;
    schedule::ForwardOptions options = forward_;
    options.on_routing = [&](int64_t layer, const model::Routes& routes) {
      if (balance_.kind == Balance::auxiliary) {
        const at::Tensor loss = balance_loss(routes, balance_.by_sequence ? rows.count() : 1) *
                                (balance_.alpha * share);
        auxiliary = auxiliary.defined() ? auxiliary + loss : loss;
      } else if (balance_.kind == Balance::bias) {
        count(layer, routes);
      }
    };
    schedule::Ending ending = schedule::begin_forward(
        model_, model::Batch::whole(rows.tokens.to(model_.device)), options);
    return std::make_unique<TextPass>(model_, rows, weight, std::move(ending),
                                      std::move(auxiliary));
  }

  void after_step(bool updated) override {
    at::NoGradGuard no_grad;
    for (auto& [layer, load] : load_) {
      if (updated) {
        load = world_.all_reduce("expert load", load).wait();
        const at::Tensor bias = model_.weights.layers[layer].moe.correction.value.detach();
        bias.add_((load.mean() - load).sign().to(bias.scalar_type()), balance_.rate);
      }
      load.zero_();
    }
  }

  Validation validate(const Rows& rows) override {
    const Evaluation figures = evaluate({model_, forward_}, nullptr, rows, {.world = world_});
    return {figures.loss, figures};
  }

  double flops_per_token() const override { return 6 * active_weights(model_); }

 private:
  void count(int64_t layer, const model::Routes& routes) {
    const at::Tensor load =
        at::bincount(routes.experts.reshape({-1}), {}, routes.scores.size(1)).to(at::kDouble);
    at::Tensor& sum = load_[layer];
    sum = sum.defined() ? sum + load : load;
  }

  model::Model& model_;
  schedule::ForwardOptions forward_;
  BalanceOptions balance_;
  comm::Group world_;
  std::map<int64_t, at::Tensor> load_;  ///< choices of each expert in this step
};

}  // namespace

std::unique_ptr<Task> pretraining(model::Model& model, schedule::ForwardOptions forward,
                                  const BalanceOptions& balance, const comm::Group& world) {
  return std::make_unique<Pretraining>(model, std::move(forward), balance, world);
}

}  // namespace farskip::train
