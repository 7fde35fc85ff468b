// MLPs: dense, shared, and routed experts in the three steps that the schedule needs.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/dispatch.h"
#include "model/routed_output.h"
#include "model/router.h"
#include "model/token_gather.h"
#include "model/weights.h"

namespace farskip::model {

/// down(silu(gate x) * up x). x [N, hidden] -> [N, hidden]
at::Tensor mlp(const at::Tensor& x, const MlpWeights& weights);

/// Tokens on their way to the experts; a value that the combine takes back.
struct Dispatched {
  at::Tensor h;    ///< [N, hidden], the normed input of router and experts
  at::Tensor all;  ///< the shared experts': h, or more tokens than have routed experts
  Routes routes;
  /// On one rank, who goes where; absent when so few tokens are decoded that experts and combine
  /// are one kernel.
  std::optional<kernels::Plan> plan;
  Fraction own;     ///< of the experts, which this rank has, where others' pairs are left to others
  at::Tensor rows;  ///< [N k, hidden] grouped by expert; undefined without a plan
  /// On several ranks, by wave: the messages (of one kind), and the ticket of the dispatch.
  Exchanges exchanges;
  std::vector<at::Tensor> tickets;
  std::vector<std::shared_ptr<TokenGather>> gathers;

  int64_t waves() const {
    return std::max<int64_t>(1, std::ssize(exchanges) + std::ssize(gathers));
  }
  /// Whether experts() would wait for nothing.
  bool arrived(int64_t wave) const;
  /// The messages of the waves that follow.
  void append(Dispatched next);
};

/// Where a layer's messages go.
struct DispatchOptions {
  const ExpertRanks& ranks;
  int64_t layer = 0;       ///< names its messages
  int64_t chunks = 1;      ///< of each wave's combine (see ExpertExchange)
  at::Tensor chosen = {};  ///< experts in place of the router's choice (see route)
  bool kept = false;       ///< the layer will be recomputed (see ExpertExchange)
  Exchanges again = {};    ///< those of the layer, which is recomputed now
  /// The experts of this rank, where every rank has all tokens and works on the pairs of its own.
  Fraction own = {};
  /// With Transport::all_gather: the layer's tokens of every rank.
  comm::Splits counts = {};
  int64_t wave = -1;  ///< the one that is dispatched; -1: all

  /// In how many waves a layer's tokens go to several ranks. Of n of a rank, wave w has n w / waves
  /// to n (w + 1) / waves.
  int64_t waves() const;
};

/// Routes and launches. h [N, hidden], all of this rank's tokens or those of the wave.
Dispatched dispatch(const at::Tensor& h, const MoeWeights& weights, const MoeConfig& config,
                    const DispatchOptions& options);

/// Waits for the tokens of all ranks that were gathered: they as one rank's [R, hidden], of whose
/// pairs this rank works on its own.
Dispatched gathered(const Dispatched& sent, int64_t wave, const MoeWeights& weights,
                    const MoeConfig& config);
/// Waits for the rows of a wave that come here. Outputs of this rank's experts [P, hidden] in the
/// plan's order; without a plan, combined already [N, hidden]. Not of tokens that were gathered.
at::Tensor experts(const Dispatched& sent, int64_t wave, const MoeWeights& weights,
                   const MoeConfig& config);
/// What the experts' down projections read [P, width], where one rank has all tokens and there is a
/// plan; and of the weighted sums that experts() and combine() give, columns begin .. begin +
/// count [N, count]: the same bits, without gradients.
at::Tensor experts_inner(const Dispatched& sent, const MoeWeights& weights);
at::Tensor combined_columns(const Dispatched& sent, const at::Tensor& inner, int64_t begin,
                            int64_t count, const MoeWeights& weights, const MoeConfig& config);
/// Launches the outputs' way back, not to tokens that were gathered. -> ticket; on one rank, the
/// outputs as they are
at::Tensor send_back(const Dispatched& sent, int64_t wave, const at::Tensor& outputs,
                     const MoeConfig& config);
/// `outputs`: what send_back() gave, by wave, if it was called. Weighted sums [N, hidden], in the
/// order of the experts; where each rank takes that of its own experts, in the order of the ranks.
RoutedOutput combine(const Dispatched& sent, const std::vector<at::Tensor>& outputs,
                     const MoeConfig& config);

}  // namespace farskip::model
