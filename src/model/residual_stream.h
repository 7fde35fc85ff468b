// The residual stream: a sum some of whose terms may still be on the wire. A layer says which value
// it reads; only the stream knows about waiting.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "model/routed_output.h"

namespace farskip::model {

/// Holds x + a, the shared experts' output s and the routed experts' output r apart until they are
/// due, because (method of arXiv 2511.11505, in the order of sums of AMD's model code, which
/// matters in bfloat16)
///     p' = (x + a) + s,    x' = (x + a) + (r + s).
/// All tensors are [tokens, hidden].
class ResidualStream {
 public:
  /// What the stream is made of between two layers.
  struct Terms {
    at::Tensor base;                     ///< x + a
    at::Tensor shared;                   ///< s; undefined where there is none
    at::Tensor full;                     ///< x', where it has been settled already
    std::optional<RoutedOutput> routed;  ///< r, where it is still to be waited for
  };

  explicit ResidualStream(at::Tensor x) : base_(std::move(x)) {}
  explicit ResidualStream(Terms terms)
      : base_(std::move(terms.base)),
        routed_(std::move(terms.routed)),
        shared_(std::move(terms.shared)),
        full_(std::move(terms.full)) {}

  /// p: everything but the routed output that was added last. Never waits for it.
  at::Tensor partial();
  /// x: everything, waiting for the routed output if it is still in flight.
  at::Tensor full();

  /// Adds an output that is there (attention, dense MLP) to the settled stream.
  void add(const at::Tensor& output);
  /// Adds the routed experts' output, which may be in flight.
  void add_routed(RoutedOutput output);
  /// Adds the shared experts' output; it belongs to the same layer as the routed output before it.
  void add_shared(at::Tensor output);

  /// Gives the terms to the next layer, or to a reader that settles them piece by piece; the stream
  /// is empty afterwards.
  Terms release();

 private:
  at::Tensor base_;
  std::optional<RoutedOutput> routed_;
  at::Tensor shared_;
  at::Tensor partial_, full_;  ///< sums made already
};

}  // namespace farskip::model
