// The messages of one MoE layer in one pass, where every token goes to all ranks and each sends
// back one sum of its own experts' outputs: all-gather and reduce-scatter. Without gradients.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "comm/courier.h"
#include "model/expert_ranks.h"
#include "model/message_rows.h"
#include "model/router.h"

namespace farskip::model {

/// How many tokens every rank has in a pass. One small message a pass tells it for all layers; it
/// travels under what comes before the first MoE layer.
class TokenCounts {
 public:
  /// Launches. `tokens` of this rank; `asked`: those of them that the last layers work on.
  TokenCounts(const ExpertRanks& ranks, int64_t tokens, int64_t asked);
  /// Where they are known.
  TokenCounts(comm::Splits tokens, comm::Splits asked)
      : tokens_(std::move(tokens)), asked_(std::move(asked)) {}

  /// By rank. The first call of either waits.
  const comm::Splits& tokens();
  const comm::Splits& asked();

 private:
  void settle();

  std::optional<comm::Pending> told_;
  comm::Splits tokens_, asked_;
};

/// The messages of one wave. A token's row carries its features, and its experts and weights: only
/// its own rank routes it. Each call is made once, in this order.
class TokenGather {
 public:
  /// counts: the wave's tokens of every rank. `wave`: names its messages; -1 where it is all
  /// tokens.
  TokenGather(const ExpertRanks& ranks, int64_t layer, int64_t wave, comm::Splits counts);

  /// Launches the all-gather of h [counts[rank], hidden] and its routes.
  void send(const at::Tensor& h, const Routes& routes);
  struct Tokens {
    at::Tensor h;   ///< [R, hidden], R = sum of the counts, in the order of the ranks
    Routes routes;  ///< of them; without scores
  };
  bool arrived() const { return !gathered_ || gathered_->arrived(); }
  /// Waits for it.
  Tokens receive();
  /// Launches the reduce-scatter of this rank's sums [R, hidden], or of their next columns, of so
  /// many pieces on every rank.
  void send_back(const at::Tensor& sums, int64_t pieces);
  /// The sum over the ranks for this rank's tokens [counts[rank], hidden].
  comm::Pending sum();

 private:
  ExpertRanks ranks_;
  int64_t layer_, wave_, top_k_ = 0;
  comm::Splits counts_;
  RowFormat format_;
  at::ScalarType dtype_ = at::kFloat, weight_dtype_ = at::kFloat;
  std::optional<comm::Pending> gathered_;
  std::vector<comm::Pending> sums_;  ///< of columns that follow one another
};

}  // namespace farskip::model
