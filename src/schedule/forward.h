// One forward pass of a model: the layer program, played with tensors.
#pragma once
#include <functional>

#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/moe.h"
#include "model/router.h"
#include "schedule/ending.h"
#include "schedule/head.h"
#include "schedule/part_log.h"

namespace farskip::schedule {

using model::Execution;

struct ForwardOptions {
  model::Connectivity connectivity;
  model::ExpertRanks ranks = {};
  /// Keys and values of the batch's segments; null for whole sequences. With a cache no gradients
  /// are recorded.
  model::KvCache* cache = nullptr;
  /// Keep of each layer only what comes in and what arrives from other ranks, and compute the rest
  /// again in its backward pass. The same bits.
  bool recompute = false;
  /// Where the parts of the pass, and of its backward, are written down; null: nowhere.
  PartLog* parts = nullptr;
  /// Gives experts in place of the router's choice (model/synthetic_routes.h), of all tokens that a
  /// layer routes; empty: the router's.
  std::function<at::Tensor(int64_t layer, int64_t tokens, const model::RouterConfig&)> choose = {};
  /// Of the batch's tokens those whose hidden states are asked for, int64 [n]: the last layer's
  /// experts and messages are for them alone. Undefined: all. Without gradients only.
  at::Tensor rows = {};
  /// Called with x_k, k = 0 .. depth (the last one of `rows`), as soon as it is whole (which
  /// settles what is in flight).
  std::function<void(int64_t k, const at::Tensor& x)> on_residual = {};
  /// Called with the choice of every MoE layer.
  std::function<void(int64_t layer, const model::Routes& routes)> on_routing = {};
};

/// Hidden states after the final norm [N or n, hidden], which the head turns into logits.
/// A batch may be empty where other ranks want this one's experts (ExpertRanks::courier); such
/// ranks make the same passes, with `rows` of their own, or without, but all or none with
/// on_residual. InputError for no tokens elsewhere; tokens outside the vocabulary; segments that do
/// not fit the cache. Error for gradients where every rank has all tokens (ExpertRanks::reducer) or
/// gathers them (Transport::all_gather): these layouts only infer.
at::Tensor forward(const model::Model& model, const model::Batch& batch,
                   const ForwardOptions& options);

/// The same up to the last layer, for a reader that takes the rest chunk by chunk.
Ending begin_forward(const model::Model& model, const model::Batch& batch,
                     const ForwardOptions& options);

}  // namespace farskip::schedule
