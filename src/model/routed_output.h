// The routed experts' output of one layer, which may still be on the wire.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/pending.h"
#include "model/expert_exchange.h"

namespace farskip::model {

/// Waited for once: as a whole, part by part, or chunk by chunk of the tokens.
class RoutedOutput {
 public:
  explicit RoutedOutput(comm::Pending whole) { parts_.push_back(std::move(whole)); }
  /// Of tokens that follow one another; at least one part.
  RoutedOutput(std::vector<comm::Pending> parts) : parts_(std::move(parts)) {}
  RoutedOutput(Exchanges exchanges, at::Tensor ticket, kernels::Accumulate accumulate)
      : exchanges_(std::move(exchanges)), ticket_(std::move(ticket)), accumulate_(accumulate) {}

  /// [N, hidden]
  at::Tensor wait();

  /// Part by part, of tokens that follow one another, in place of wait(): the next [n, hidden],
  /// whether it is there, and whether there is none any more.
  at::Tensor next();
  bool arrived() const;
  bool done() const { return next_ == parts(); }

  /// The exchanges that it comes from, if any. It can then be taken chunk by chunk in place of
  /// wait(), over all waves.
  const Exchanges& exchanges() const { return exchanges_; }
  const at::Tensor& ticket() const { return ticket_; }
  kernels::Accumulate accumulate() const { return accumulate_; }
  int64_t chunks() const;
  /// First token of a chunk; chunk_begin(chunks()) is the number of tokens.
  int64_t chunk_begin(int64_t chunk) const;
  /// [tokens of the chunk, hidden]
  at::Tensor wait(int64_t chunk);
  /// See ExpertExchange::launch_combine_gradient.
  void launch_gradient(int64_t chunk, const at::Tensor& dy);

 private:
  int64_t parts() const;

  std::vector<comm::Pending> parts_;
  int64_t next_ = 0;
  Exchanges exchanges_;
  at::Tensor ticket_;
  kernels::Accumulate accumulate_ = kernels::Accumulate::kOpmath;
};

}  // namespace farskip::model
