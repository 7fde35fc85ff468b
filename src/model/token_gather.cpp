#include "model/token_gather.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/opmath.h"
#include "util/error.h"

namespace farskip::model {

using Part = comm::MessageName::Part;

TokenCounts::TokenCounts(const ExpertRanks& ranks, int64_t tokens, int64_t asked)
    : told_(ranks.launched(ranks.courier->tell({.part = Part::counts}, {tokens, asked}))) {}

void TokenCounts::settle() {
  if (!told_) return;
  const at::Tensor told = std::exchange(told_, std::nullopt)->wait();
  for (int64_t r = 0; r < told.size(0); ++r) {
    tokens_.push_back(told[r][0].item<int64_t>());
    asked_.push_back(told[r][1].item<int64_t>());
  }
}

const comm::Splits& TokenCounts::tokens() {
  settle();
  return tokens_;
}

const comm::Splits& TokenCounts::asked() {
  settle();
  return asked_;
}

TokenGather::TokenGather(const ExpertRanks& ranks, int64_t layer, int64_t wave, comm::Splits counts)
    : ranks_(ranks), layer_(layer), wave_(wave), counts_(std::move(counts)) {}

void TokenGather::send(const at::Tensor& h, const Routes& routes) {
  const int64_t expected = counts_.at(ranks_.rank());
  if (h.size(0) != expected)
    throw Error(util::concat("all-gather: found ", h.size(0), " tokens, expected ", expected,
                             ", as the other ranks were told"));
  dtype_ = h.scalar_type();
  weight_dtype_ = routes.weights.scalar_type();
  top_k_ = routes.experts.size(1);
  // A row's extras: its experts, which such a number holds exactly, and their weights.
  format_ = {h.size(1), ranks_.wire.value_or(dtype_), 2 * top_k_, kernels::opmath(dtype_)};
  const at::Tensor message = format_.allocate(h.size(0), h.device());
  format_.features_of(message).copy_(h);
  const at::Tensor extras = format_.extras_of(message);
  extras.narrow(1, 0, top_k_).copy_(routes.experts);
  extras.narrow(1, top_k_, top_k_).copy_(routes.weights);
  gathered_.emplace(ranks_.launched(
      ranks_.courier->all_gather({layer_, Part::gather, false, wave_}, message, counts_)));
}

TokenGather::Tokens TokenGather::receive() {
  const at::Tensor message = std::exchange(gathered_, std::nullopt)->wait();
  const at::Tensor extras = format_.extras_of(message);
  return {format_.features_of(message).to(dtype_),
          {.experts = extras.narrow(1, 0, top_k_).to(at::kLong),
           .weights = extras.narrow(1, top_k_, top_k_).to(weight_dtype_).contiguous(),
           .scores = {}}};
}

void TokenGather::send_back(const at::Tensor& sums, int64_t pieces) {
  const int64_t chunk =
      pieces == 1 ? wave_ : std::max<int64_t>(wave_, 0) * pieces + std::ssize(sums_);
  sums_.push_back(ranks_.launched(ranks_.courier->reduce_scatter(
      {layer_, Part::scatter, false, chunk}, sums, counts_, format_.dtype)));
}

comm::Pending TokenGather::sum() {
  return comm::joined(std::exchange(sums_, {}));
}

}  // namespace farskip::model
