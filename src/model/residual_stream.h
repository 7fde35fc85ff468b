// The residual stream: a sum some of whose terms may still be on the wire. A layer says which value
// it reads; only the stream knows about waiting.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <variant>
#include <vector>

#include "model/routed_output.h"

namespace farskip::model {

/// Holds x + a, the shared experts' output s and the routed experts' output r apart until they are
/// due, because (method of arXiv 2511.11505, in the order of sums of AMD's model code, which
/// matters in bfloat16)
///     p' = (x + a) + s,    x' = (x + a) + (r + s).
/// Where a and s are sums over ranks, they arrive together as one near output n = a + s, and
///     p' = x + n,    x' = p' + r.
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

  /// A near output of which every rank has some tokens' share, and all ranks that of the tokens
  /// which are kept next.
  struct Scattered {
    struct Part {
      int64_t begin = 0, count = 0;  ///< tokens that the ranks divide
      at::Tensor tokens;             ///< int64 [n], this rank's
      comm::Pending sum;             ///< [n, hidden]
    };
    std::vector<Part> parts;
    std::optional<comm::Pending> kept;  ///< [kept, hidden]
  };

  using Near = std::variant<std::vector<comm::Pending>, Scattered>;

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
  /// Of `count` tokens from `begin` on, waiting only for the outputs of those and earlier ones.
  /// Without gradients.
  at::Tensor partial(int64_t begin, int64_t count);
  at::Tensor full(int64_t begin, int64_t count);
  /// Whether the next part of the routed output is there that full() of more tokens would wait for.
  bool arrived() const { return !routed_ || routed_->arrived(); }
  /// Parts of the near output that are worth waiting for one after the other.
  int64_t near_parts() const {
    return together_ ? 1 : std::ssize(near_) - static_cast<int64_t>(next_);
  }

  /// Adds an output that is there (attention, dense MLP) to the settled stream.
  void add(const at::Tensor& output);
  /// Adds an output to the settled stream that may be in flight, and that p has too: parts of
  /// tokens that follow one another. `together`: by the time they are read, all are expected to be
  /// there.
  void add_near(Near near, bool together = false);
  /// Whether it was one that no rank has whole: it is read by parts(), and then tokens are kept.
  bool scattered() const { return scattered_.kept.has_value(); }
  std::vector<Scattered::Part>& parts() { return scattered_.parts; }
  /// p, and x unless a routed output has been added since, of a part's tokens.
  at::Tensor partial(Scattered::Part& part);
  /// Adds the routed experts' output, which may be in flight. `rows`, if defined: of these tokens
  /// alone, which are to be kept before x is read.
  void add_routed(RoutedOutput output, const at::Tensor& rows = {});
  /// Adds the shared experts' output; it belongs to the same layer as the routed output before it.
  void add_shared(at::Tensor output);

  /// Keeps only these tokens, int64 [n], from now on; near outputs must be there, or scattered.
  void keep(const at::Tensor& rows);

  /// Gives the terms to the next layer, or to a reader that settles them piece by piece; the stream
  /// is empty afterwards.
  Terms release();

 private:
  void settle_near(int64_t tokens);
  void settle_routed(int64_t tokens);

  at::Tensor base_;
  std::vector<comm::Pending> near_;  ///< to be added to base
  bool together_ = false;            ///< they are read as one
  int64_t settled_ = 0;              ///< tokens of base + near that are there ...
  size_t next_ = 0;                  ///< ... and the part that comes next
  at::Tensor sum_;                   ///< base + near, as far as settled
  Scattered scattered_;
  std::optional<RoutedOutput> routed_;
  at::Tensor routed_rows_;       ///< of which these are kept; undefined: all
  bool routed_of_kept_ = false;  ///< it is of tokens that are still to be kept
  at::Tensor arriving_;          ///< x, as far as the routed output has been settled ...
  int64_t routed_settled_ = 0;   ///< ... of so many tokens
  at::Tensor shared_;
  at::Tensor partial_, full_;  ///< sums made already
};

}  // namespace farskip::model
