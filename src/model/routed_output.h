// The routed experts' output of one layer, which may still be on the wire.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/pending.h"
#include "model/expert_exchange.h"

namespace farskip::model {

/// Waited for once: as a whole, or chunk by chunk of the tokens.
class RoutedOutput {
 public:
  explicit RoutedOutput(comm::Pending whole) : whole_(std::move(whole)) {}
  RoutedOutput(std::shared_ptr<ExpertExchange> exchange, at::Tensor ticket,
               kernels::Accumulate accumulate)
      : exchange_(std::move(exchange)), ticket_(std::move(ticket)), accumulate_(accumulate) {}

  /// [N, hidden]
  at::Tensor wait();

  /// The exchange that it comes from; null where it is whole. Its chunks are then combined one by
  /// one in place of wait().
  const std::shared_ptr<ExpertExchange>& exchange() const { return exchange_; }
  const at::Tensor& ticket() const { return ticket_; }
  kernels::Accumulate accumulate() const { return accumulate_; }
  at::Tensor wait(int64_t chunk) { return exchange_->combine(ticket_, chunk, accumulate_); }

 private:
  std::optional<comm::Pending> whole_;
  std::shared_ptr<ExpertExchange> exchange_;
  at::Tensor ticket_;
  kernels::Accumulate accumulate_ = kernels::Accumulate::kOpmath;
};

}  // namespace farskip::model
