// How good a model is on text, and how far from another one.
#pragma once
#include <functional>
#include <map>
#include <optional>

#include "comm/group.h"
#include "schedule/forward.h"
#include "train/loader.h"

namespace farskip::train {

/// A model and how it is run (connectivity, execution).
struct Subject {
  const model::Model& model;
  schedule::ForwardOptions forward;
};

/// Means over the positions that count.
struct Evaluation {
  int64_t tokens = 0;   ///< positions that count
  double loss = 0;      ///< cross entropy of the next token, in nats
  double accuracy = 0;  ///< share of positions whose likeliest token is the next one
  // With a teacher only:
  std::optional<double> kl;              ///< KL(teacher || model), in nats
  std::optional<double> top1_agreement;  ///< share of positions with the same likeliest token
  /// By layer: mean over all tokens of |chosen by both| / k.
  std::map<int64_t, double> router_agreement;

  double perplexity() const;
  double mean_router_agreement() const;  ///< over the layers; 1 without any
};

struct EvaluateOptions {
  int64_t rows_at_once = 4;
  double temperature = 1;  ///< tau of both softmaxes, as in HeadInput
  /// Ranks that share the rows out; each gets the figures of all. All have the same rows.
  comm::Group world = {};
  /// Called after the forward passes of each part of the rows that this rank reads.
  std::function<void(const Rows& part)> on_part;
};

/// Mean over tokens of |a and b| / k, for choices int64 [N, k] of the same N and k.
double route_overlap(const at::Tensor& a, const at::Tensor& b);

/// InputError if the teacher has another vocabulary, or other MoE layers, than the model.
Evaluation evaluate(const Subject& subject, const Subject* teacher, const Rows& rows,
                    const EvaluateOptions& options = {});

}  // namespace farskip::train
