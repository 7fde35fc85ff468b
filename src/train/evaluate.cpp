#include "train/evaluate.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "train/loss.h"
#include "util/error.h"

namespace farskip::train {
namespace {

void check_teacher(const model::ModelConfig& model, const model::ModelConfig& teacher) {
  util::require(teacher.vocabulary == model.vocabulary, "--teacher: vocabulary", teacher.vocabulary,
                util::concat(model.vocabulary, ", the model's"));
  util::require(teacher.depth() == model.depth(), "--teacher: layers", teacher.depth(),
                util::concat(model.depth(), ", the model's"));
  for (int64_t k = 0; k < model.depth(); ++k) {
    const auto& own = model.layers[k].moe;
    const auto& other = teacher.layers[k].moe;
    if (own.has_value() != other.has_value() ||
        (own && (own->router.experts != other->router.experts ||
                 own->router.top_k != other->router.top_k)))
      throw InputError(util::concat("--teacher: layer ", k,
                                    ": found another MLP or number of experts than the model's, "
                                    "expected the same"));
  }
}

using Choices = std::map<int64_t, at::Tensor>;

/// Hidden states of a batch, and the experts that every layer chose.
at::Tensor run(const Subject& subject, const at::Tensor& tokens, Choices& choices) {
  schedule::ForwardOptions forward = subject.forward;
  forward.on_routing = [&](int64_t layer, const model::Routes& routes) {
    choices[layer] = routes.experts;
  };
  return schedule::forward(subject.model, model::Batch::whole(tokens.to(subject.model.device)),
                           forward);
}

/// Tokens of the rows that are text.
int64_t text_tokens(const Rows& rows) {
  return rows.tokens.numel() - rows.padding;
}

/// Over the ranks.
void add_up(const comm::Group& world, HeadSums& sums, std::map<int64_t, double>& agreement) {
  std::vector<double> own = {static_cast<double>(sums.rows), sums.kl, sums.cross_entropy,
                             static_cast<double>(sums.agree), static_cast<double>(sums.correct)};
  for (const auto& [layer, share] : agreement) own.push_back(share);
  const at::Tensor all = world.all_reduce("evaluation", at::tensor(own, at::kDouble)).wait();
  const double* sum = all.const_data_ptr<double>();
  sums = {.rows = static_cast<int64_t>(*sum++),
          .kl = *sum++,
          .cross_entropy = *sum++,
          .agree = static_cast<int64_t>(*sum++),
          .correct = static_cast<int64_t>(*sum++)};
  for (auto& [layer, share] : agreement) share = *sum++;
}

}  // namespace

double Evaluation::perplexity() const {
  return std::exp(loss);
}

double Evaluation::mean_router_agreement() const {
  double sum = 0;
  for (const auto& [layer, share] : router_agreement) sum += share;
  return router_agreement.empty() ? 1 : sum / static_cast<double>(router_agreement.size());
}

double route_overlap(const at::Tensor& a, const at::Tensor& b) {
  return a.unsqueeze(2).eq(b.unsqueeze(1)).any(2).to(at::kDouble).mean().item<double>();
}

Evaluation evaluate(const Subject& subject, const Subject* teacher, const Rows& rows,
                    const EvaluateOptions& options) {
  if (teacher) check_teacher(subject.model.config, teacher->model.config);
  const c10::InferenceMode inference;
  HeadSums sums;
  Evaluation found;
  const comm::Group& world = options.world;
  const int64_t parts = (rows.count() + options.rows_at_once - 1) / options.rows_at_once;
  for (int64_t round = 0; round * world.size() < parts; ++round) {
    // Ranks reach each other's experts, so all of them make as many passes: one that has no part
    // left reads the first again, without counting it.
    const int64_t turn = round * world.size() + world.rank();
    const int64_t begin = turn < parts ? turn * options.rows_at_once : 0;
    Rows part = rows.slice(begin, std::min(options.rows_at_once, rows.count() - begin));
    if (turn >= parts) part.learn = at::zeros_like(part.learn);
    const double share = turn < parts ? static_cast<double>(text_tokens(part)) /
                                            static_cast<double>(text_tokens(rows))
                                      : 0;
    Choices own, others;
    HeadInput input;
    input.temperature = options.temperature;
    input.hidden = run(subject, part.tokens, own);
    input.head = subject.model.weights.head.value;
    if (teacher) {
      input.teacher_hidden = run(*teacher, part.tokens, others);
      input.teacher_head = teacher->model.weights.head.value;
      for (const auto& [layer, experts] : own) {
        // Ranks that have a part of the tokens each have no place for the padding.
        const int64_t all = experts.size(0);
        const int64_t tokens = all == part.tokens.numel() ? all - part.padding : all;
        found.router_agreement[layer] +=
            share *
            route_overlap(others.at(layer).narrow(0, 0, tokens), experts.narrow(0, 0, tokens));
      }
    }
    input.targets = part.targets.reshape({-1}).to(subject.model.device);
    input.rows = part.selected().to(subject.model.device);
    sums += head_statistics(input);
    if (options.on_part) options.on_part(part);
  }
  add_up(world, sums, found.router_agreement);
  util::require(sums.rows > 0, "evaluation data", "no position that counts", "at least one");
  const auto count = static_cast<double>(sums.rows);
  found.tokens = sums.rows;
  found.loss = sums.cross_entropy / count;
  found.accuracy = static_cast<double>(sums.correct) / count;
  if (teacher) {
    found.kl = sums.kl / count;
    found.top1_agreement = static_cast<double>(sums.agree) / count;
  }
  return found;
}

}  // namespace farskip::train
