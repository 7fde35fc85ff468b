// The end of a training pass: x_L, the final norm, and the beginning of the backward pass, chunk by
// chunk of the tokens, so that the last combine and the first gradient's message, which have no
// layer to run under, run under the head and the loss of other chunks.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "model/model.h"
#include "model/residual_stream.h"
#include "model/turns.h"

namespace farskip::schedule {

/// Chunks of the last combine where several ranks share the experts.
constexpr int64_t kEndingChunks = 8;

/// The forward pass of another micro-batch beside an ending.
struct Beside {
  std::shared_ptr<model::Turns> turns;  ///< null: none
  int64_t layers = 0;                   ///< with experts, that it goes through meanwhile
  int64_t waits = 0;                    ///< of each of them
};

/// What a pass has left to do after its last layer. The model must outlive it. Every chunk's hidden
/// states are asked for once, in order.
class Ending {
 public:
  Ending(const model::Model& model, model::ResidualStream::Terms terms, Beside beside = {});

  int64_t chunks() const;
  /// First token of a chunk; begin(chunks()) is the number of tokens.
  int64_t begin(int64_t chunk) const;
  /// Hidden states after the final norm [tokens of the chunk, hidden], without a graph. Waits for
  /// the chunk's share of the last combine.
  at::Tensor hidden(int64_t chunk);
  /// Once, in the middle of the work on a chunk: lets the other micro-batch go through its share of
  /// layers. The last of their turns comes when the next chunk is waited for, so that half of a
  /// chunk's work is beside a dispatch and half beside a combine.
  void pause(int64_t chunk) const;
  /// Takes the gradient of what hidden() gave, and launches the chunk's first message of the
  /// backward pass.
  void gradient(int64_t chunk, const at::Tensor& d_hidden);
  /// Runs the rest of the backward pass; `roots` are further ends of the graph and their gradients.
  void backward(std::vector<at::Tensor> roots = {}, std::vector<at::Tensor> gradients = {});

 private:
  const model::Model& model_;
  model::ResidualStream::Terms terms_;
  Beside beside_;
  at::Tensor x_, rstd_;  ///< of the chunk at hand
  at::Tensor dx_;        ///< [N, hidden]
};

}  // namespace farskip::schedule
