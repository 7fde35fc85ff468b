// The messages of one MoE layer in one pass, where several ranks share the experts: tokens to the
// experts' ranks and outputs back (dispatch, combine), and their gradients the other way.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "comm/courier.h"
#include "kernels/dispatch.h"
#include "model/expert_ranks.h"
#include "model/message_rows.h"
#include "model/router.h"

namespace farskip::model {

/// A token's row goes to a rank once, however many of its experts are there; outputs come back as
/// Combine says, by default one a chosen expert, because their weighted sum is taken at the sender
/// in the order of the experts, whatever the number of ranks. The gradient of the output goes once
/// to every rank again, with the weights; there it becomes the gradients of outputs and weights,
/// and the sum of the row's gradients comes back with the latter.
///
/// Every message is two autograd nodes. The node that launches gives a ticket (an empty tensor that
/// carries the graph), the node that waits takes it; in backward the second launches the gradient's
/// message and the first waits for it. Autograd runs nodes in the reverse order of their making, so
/// the backward pass has the forward pass's windows.
///
/// An exchange is that of one wave: of all the tokens of a pass, or of some that follow one
/// another. Its combine may come in `chunks` of the sender's tokens, each a message of its own, for
/// a reader that begins with the first tokens.
class ExpertExchange : public std::enable_shared_from_this<ExpertExchange> {
 public:
  /// routes of the wave's tokens of this rank over all `experts`; hidden features of `dtype`.
  /// `kept`: what arrives is kept, so that a layer that is recomputed in its backward pass can play
  /// the same calls again: they give the same tensors, with a graph, and launch nothing.
  ExpertExchange(const ExpertRanks& ranks, int64_t layer, int64_t wave, const Routes& routes,
                 int64_t experts, int64_t hidden, at::ScalarType dtype, int64_t chunks, bool kept);

  /// Launches the dispatch of h [N, hidden]. The gradient of the weights, which are the
  /// constructor's routes', comes back with that of h. -> ticket
  at::Tensor send(const at::Tensor& h, const at::Tensor& weights);
  bool arrived() const { return !dispatch_ || dispatch_->arrived(); }
  /// Waits for it. -> rows of this rank's experts [P, hidden], ordered by expert, then sender, then
  /// token
  at::Tensor receive(const at::Tensor& ticket);
  /// Of the received rows: expert e of this rank has offsets[e] .. offsets[e + 1].
  const kernels::Plan& plan() const { return received_; }
  /// Launches the return of outputs [P, hidden], which are added up as `accumulate` says. -> ticket
  at::Tensor send_back(const at::Tensor& outputs, kernels::Accumulate accumulate);
  /// Whether combine() of the chunk would wait for nothing.
  bool returned(int64_t chunk) const {
    return !chunks_[chunk].returned || chunks_[chunk].returned->arrived();
  }
  /// Waits for a chunk of it. -> weighted sums [tokens of the chunk, hidden]
  at::Tensor combine(const at::Tensor& ticket, int64_t chunk, kernels::Accumulate accumulate);

  int64_t chunks() const { return static_cast<int64_t>(chunks_.size()); }
  /// First token of a chunk; chunk_begin(chunks()) is the number of tokens.
  int64_t chunk_begin(int64_t chunk) const { return tokens_ * chunk / chunks(); }
  /// What the backward of combine() does, for a reader that makes its own gradients: launches that
  /// of the chunk, dy [tokens of the chunk, hidden].
  void launch_combine_gradient(int64_t chunk, const at::Tensor& dy);

 private:
  /// One chunk of this rank's tokens, as their sender.
  struct Chunk {
    kernels::Plan pairs;  ///< of all experts: the order in which outputs come back
    kernels::Plan rows;   ///< of all ranks: a row for each rank that a token goes to
    comm::Splits pairs_to, rows_to;
    // As the experts' rank:
    at::Tensor back;  ///< int64: which outputs, or sums of received rows, go back, by sender
    comm::Splits back_from, rows_from;
    std::optional<comm::Pending> returned, gradient;
  };
  RowFormat token_format() const;
  RowFormat gradient_format() const;
  comm::MessageName dispatch_name(bool backward) const;
  comm::MessageName combine_name(bool backward, int64_t chunk) const;
  at::Tensor settled(comm::Pending pending) const;
  at::Tensor ticket() const;

  void launch_dispatch(const at::Tensor& h);
  at::Tensor finish_dispatch();
  void read_routes(const at::Tensor& message);
  void launch_return(const at::Tensor& outputs, kernels::Accumulate accumulate);
  at::Tensor finish_return(int64_t chunk, kernels::Accumulate accumulate);
  at::Tensor finish_combine_gradient(const at::Tensor& outputs);
  void launch_dispatch_gradient(const at::Tensor& drows);
  struct TokenGradients {
    at::Tensor h, weights;
  };
  TokenGradients finish_dispatch_gradient();

  ExpertRanks ranks_;
  int64_t layer_, wave_, tokens_, top_k_, own_experts_, hidden_;
  at::ScalarType dtype_, wire_;
  at::Device device_;
  at::Tensor experts_;  ///< [N, k] on the CPU
  at::Tensor weights_;  ///< [N, k], without a graph
  std::vector<Chunk> chunks_;
  kernels::Plan rows_;  ///< of all tokens: a row for each rank that a token goes to
  comm::Splits rows_to_;
  std::shared_ptr<comm::Splits> rows_from_ = std::make_shared<comm::Splits>();
  kernels::Plan received_;       ///< of the R rows that came, over this rank's experts
  at::Tensor received_weights_;  ///< [R, k], with Combine::rank
  at::Tensor weight_gradients_;  ///< [R, k], of the received rows
  std::optional<comm::Pending> dispatch_, dispatch_gradient_;
  bool kept_, sent_ = false, sent_back_ = false;
  at::Tensor message_;                ///< the received tokens, if kept
  std::vector<at::Tensor> combined_;  ///< by chunk, if kept
};

/// Those of a layer, wave by wave.
using Exchanges = std::vector<std::shared_ptr<ExpertExchange>>;

}  // namespace farskip::model
