#include "model/expert_exchange.h"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/opmath.h"
#include "model/differentiable.h"
#include "util/error.h"

namespace farskip::model {
namespace {

using Part = comm::MessageName::Part;

/// The ranks that each token goes to, ascending, -1 behind them: experts [n, k] -> [n, min(k, N)].
at::Tensor ranks_of_tokens(const at::Tensor& experts, int64_t own_experts, int64_t ranks) {
  const int64_t tokens = experts.size(0), top_k = experts.size(1), most = std::min(top_k, ranks);
  const at::Tensor found = at::full({tokens, most}, -1, at::kLong);
  const int64_t* expert = experts.const_data_ptr<int64_t>();
  int64_t* out = found.mutable_data_ptr<int64_t>();
  std::vector<int64_t> chosen(top_k);
  for (int64_t token = 0; token < tokens; ++token, expert += top_k, out += most) {
    for (int64_t slot = 0; slot < top_k; ++slot) chosen[slot] = expert[slot] / own_experts;
    std::sort(chosen.begin(), chosen.end());
    std::copy(chosen.begin(), std::unique(chosen.begin(), chosen.end()), out);
  }
  return found;
}

/// Rows a rank, from offsets of `each` experts a rank.
comm::Splits splits(const std::vector<int64_t>& offsets, int64_t each) {
  comm::Splits found;
  for (size_t e = 0; e + each < offsets.size(); e += each)
    found.push_back(offsets[e + each] - offsets[e]);
  return found;
}

at::Tensor rows_of(const at::Tensor& all, int64_t begin, int64_t end) {
  return all.narrow(0, begin, end - begin);
}

}  // namespace

ExpertExchange::ExpertExchange(const ExpertRanks& ranks, int64_t layer, int64_t wave,
                               const Routes& routes, int64_t experts, int64_t hidden,
                               at::ScalarType dtype, int64_t chunks, bool kept)
    : ranks_(ranks),
      layer_(layer),
      wave_(wave),
      tokens_(routes.experts.size(0)),
      top_k_(routes.experts.size(1)),
      own_experts_(experts / ranks.size()),
      hidden_(hidden),
      dtype_(dtype),
      wire_(ranks.wire.value_or(dtype)),
      device_(routes.weights.device()),
      experts_(routes.experts.cpu().contiguous()),
      weights_(routes.weights.detach()),
      chunks_(chunks),
      kept_(kept),
      combined_(chunks) {
  constexpr int64_t kMost = std::numeric_limits<int16_t>::max();  // of a row's extras
  if (own_experts_ > kMost || chunks > kMost)
    throw Error(util::concat("expert messages: found ", own_experts_, " experts a rank and ",
                             chunks, " chunks, expected at most ", kMost));
  const at::Tensor to = ranks_of_tokens(experts_, own_experts_, ranks.size()).to(device_);
  rows_ = kernels::plan(to, ranks.size(), kernels::Slots::some);
  rows_to_ = splits(rows_.offsets, 1);
  for (int64_t c = 0; c < chunks; ++c) {
    Chunk& chunk = chunks_[c];
    const int64_t begin = chunk_begin(c), end = chunk_begin(c + 1);
    chunk.pairs = kernels::plan(rows_of(routes.experts, begin, end), experts);
    chunk.rows = kernels::plan(rows_of(to, begin, end), ranks.size(), kernels::Slots::some);
    chunk.pairs_to = splits(chunk.pairs.offsets, own_experts_);
    chunk.rows_to = splits(chunk.rows.offsets, 1);
  }
}

// A token's row: its features, and for every slot the receiver's own expert or -1, then the chunk;
// with Combine::rank the weights after them.
RowFormat ExpertExchange::token_format() const {
  if (ranks_.combine == Combine::rank)
    return {hidden_, wire_, 2 * top_k_ + 1, kernels::opmath(dtype_)};
  return {hidden_, wire_, top_k_ + 1, at::kShort};
}
// A gradient's row: its features, and a number for every slot: the weight, or the weight's
// gradient.
RowFormat ExpertExchange::gradient_format() const {
  return {hidden_, wire_, top_k_, kernels::opmath(dtype_)};
}

comm::MessageName ExpertExchange::dispatch_name(bool backward) const {
  return {layer_, Part::dispatch, backward, ranks_.waves > 1 ? wave_ : -1};
}
comm::MessageName ExpertExchange::combine_name(bool backward, int64_t chunk) const {
  return {layer_, Part::combine, backward,
          ranks_.waves * chunks() > 1 ? wave_ * chunks() + chunk : -1};
}

at::Tensor ExpertExchange::settled(comm::Pending pending) const {
  if (ranks_.turns) ranks_.turns->hand_over();
  pending.ask();
  while (ranks_.queue && !pending.arrived() && ranks_.queue->run_one()) {
  }
  return pending.wait();
}

at::Tensor ExpertExchange::ticket() const {
  return at::empty({0}, at::TensorOptions(dtype_).device(device_));
}

void ExpertExchange::launch_dispatch(const at::Tensor& h) {
  if (std::exchange(sent_, true)) return;
  const RowFormat format = token_format();
  const at::Tensor message = format.allocate(rows_.rows, device_);
  kernels::gather_rows_into(format.features_of(message), h.to(wire_), rows_.tokens);
  const at::Tensor extras = at::empty({rows_.rows, top_k_ + 1}, at::kShort);
  auto out = extras.accessor<int16_t, 2>();
  const auto expert = experts_.accessor<int64_t, 2>();
  const at::Tensor tokens = rows_.tokens.cpu();
  const int64_t* token = tokens.const_data_ptr<int64_t>();
  int64_t row = 0;
  for (int64_t rank = 0; rank < ranks_.size(); ++rank) {
    int64_t chunk = 0;
    for (; row < rows_.offsets[rank + 1]; ++row) {
      while (token[row] >= chunk_begin(chunk + 1)) ++chunk;
      for (int64_t slot = 0; slot < top_k_; ++slot) {
        const int64_t chosen = expert[token[row]][slot];
        out[row][slot] =
            static_cast<int16_t>(chosen / own_experts_ == rank ? chosen - rank * own_experts_ : -1);
      }
      out[row][top_k_] = static_cast<int16_t>(chunk);
    }
  }
  const at::Tensor all_extras = format.extras_of(message);
  all_extras.narrow(1, 0, top_k_ + 1).copy_(extras);
  if (ranks_.combine == Combine::rank)
    all_extras.narrow(1, top_k_ + 1, top_k_).copy_(weights_.index_select(0, rows_.tokens));
  dispatch_.emplace(ranks_.launched(
      ranks_.courier->dispatch(dispatch_name(false), message, rows_to_, rows_from_)));
}

/// The received rows' experts, and what goes back to whom in which chunk.
void ExpertExchange::read_routes(const at::Tensor& message) {
  const bool sums = ranks_.combine == Combine::rank;
  const at::Tensor all_extras = token_format().extras_of(message);
  if (sums) received_weights_ = all_extras.narrow(1, top_k_ + 1, top_k_).contiguous();
  const at::Tensor extras = all_extras.narrow(1, 0, top_k_ + 1).to(at::kCPU, at::kShort);
  received_ = kernels::plan(extras.narrow(1, 0, top_k_).to(device_, at::kLong), own_experts_,
                            kernels::Slots::some);
  const auto extra = extras.accessor<int16_t, 2>();
  const int64_t senders = ranks_.size(), rows = message.size(0);
  std::vector<int64_t> bin_of_row(rows);  // chunk * senders + sender
  for (Chunk& chunk : chunks_) chunk.rows_from = chunk.back_from = comm::Splits(senders, 0);
  int64_t row = 0;
  for (int64_t sender = 0; sender < senders; ++sender)
    for (int64_t i = 0; i < (*rows_from_)[sender]; ++i, ++row) {
      const int64_t chunk = extra[row][top_k_];
      if (chunk < 0 || chunk >= chunks())
        throw comm::CommError(util::concat(dispatch_name(false).describe(), ": rank ", sender,
                                           " sent a row of chunk ", chunk, " of ", chunks()));
      bin_of_row[row] = chunk * senders + sender;
      ++chunks_[chunk].rows_from[sender];
    }
  std::vector<std::vector<int64_t>> back(chunks() * senders);
  const at::Tensor rows_of_outputs = received_.tokens.cpu();
  const int64_t* row_of_output = rows_of_outputs.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < (sums ? rows : received_.rows); ++i)
    back[bin_of_row[sums ? i : row_of_output[i]]].push_back(i);
  for (int64_t c = 0; c < chunks(); ++c) {
    std::vector<int64_t> order;
    for (int64_t sender = 0; sender < senders; ++sender) {
      const auto& some = back[c * senders + sender];
      chunks_[c].back_from[sender] = static_cast<int64_t>(some.size());
      order.insert(order.end(), some.begin(), some.end());
    }
    chunks_[c].back = at::tensor(order, at::kLong).to(device_);
  }
}

at::Tensor ExpertExchange::finish_dispatch() {
  at::Tensor message = message_;
  if (!message.defined()) {
    message = settled(std::move(*dispatch_));
    dispatch_.reset();
    read_routes(message);
    if (kept_) message_ = message;
  }
  return kernels::gather_rows(token_format().features_of(message), received_.tokens).to(dtype_);
}

void ExpertExchange::launch_return(const at::Tensor& outputs, kernels::Accumulate accumulate) {
  if (std::exchange(sent_back_, true)) return;
  const bool sums = ranks_.combine == Combine::rank;
  const at::Tensor rows =
      (sums ? kernels::combine(outputs, received_weights_, received_, accumulate) : outputs)
          .to(wire_);
  for (int64_t c = 0; c < chunks(); ++c) {
    Chunk& chunk = chunks_[c];
    chunk.returned.emplace(ranks_.launched(
        ranks_.courier->send(combine_name(false, c), kernels::gather_rows(rows, chunk.back),
                             chunk.back_from, sums ? chunk.rows_to : chunk.pairs_to)));
  }
}

at::Tensor ExpertExchange::finish_return(int64_t c, kernels::Accumulate accumulate) {
  if (combined_[c].defined()) return combined_[c];
  Chunk& chunk = chunks_[c];
  const at::Tensor back = settled(std::move(*chunk.returned)).to(dtype_);
  chunk.returned.reset();
  const int64_t begin = chunk_begin(c), end = chunk_begin(c + 1);
  const at::Tensor sum =
      ranks_.combine == Combine::rank
          ? kernels::scatter_rows(back, chunk.rows, end - begin)
          : kernels::combine(back, rows_of(weights_, begin, end), chunk.pairs, accumulate);
  if (kept_) combined_[c] = sum;
  return sum;
}

void ExpertExchange::launch_combine_gradient(int64_t c, const at::Tensor& dy) {
  Chunk& chunk = chunks_[c];
  const RowFormat format = gradient_format();
  const at::Tensor message = format.allocate(chunk.rows.rows, device_);
  kernels::gather_rows_into(format.features_of(message), dy.to(wire_), chunk.rows.tokens);
  format.extras_of(message).copy_(
      rows_of(weights_, chunk_begin(c), chunk_begin(c + 1)).index_select(0, chunk.rows.tokens));
  chunk.gradient.emplace(ranks_.launched(
      ranks_.courier->send(combine_name(true, c), message, chunk.rows_to, chunk.rows_from)));
}

at::Tensor ExpertExchange::finish_combine_gradient(const at::Tensor& outputs) {
  const RowFormat format = gradient_format();
  // Every sender's rows lie together, and its chunks follow one another in them.
  comm::Splits next(ranks_.size(), 0);
  for (int64_t r = 1; r < ranks_.size(); ++r) next[r] = next[r - 1] + (*rows_from_)[r - 1];
  const int64_t rows = next.back() + rows_from_->back();
  const auto on_device = at::TensorOptions().device(device_);
  const at::Tensor dy = at::empty({rows, hidden_}, on_device.dtype(dtype_));
  const at::Tensor weights = at::empty({rows, top_k_}, on_device.dtype(format.extra_dtype));
  for (Chunk& chunk : chunks_) {
    const at::Tensor message = settled(std::move(*chunk.gradient));
    chunk.gradient.reset();
    int64_t begin = 0;
    for (int64_t r = 0; r < ranks_.size(); ++r) {
      const int64_t count = chunk.rows_from[r];
      const at::Tensor part = message.narrow(0, begin, count);
      dy.narrow(0, next[r], count).copy_(format.features_of(part));
      weights.narrow(0, next[r], count).copy_(format.extras_of(part));
      begin += count;
      next[r] += count;
    }
  }
  const auto gradients = kernels::combine_backward(dy, outputs, weights, received_);
  weight_gradients_ = gradients.weights;
  return gradients.outputs;
}

void ExpertExchange::launch_dispatch_gradient(const at::Tensor& drows) {
  const RowFormat format = gradient_format();
  const int64_t rows = weight_gradients_.size(0);
  const at::Tensor message = format.allocate(rows, device_);
  format.features_of(message).copy_(
      kernels::scatter_rows(drows.to(wire_).contiguous(), received_, rows));
  format.extras_of(message).copy_(weight_gradients_);
  weight_gradients_.reset();
  dispatch_gradient_.emplace(
      ranks_.launched(ranks_.courier->send(dispatch_name(true), message, *rows_from_, rows_to_)));
}

ExpertExchange::TokenGradients ExpertExchange::finish_dispatch_gradient() {
  const RowFormat format = gradient_format();
  const at::Tensor message = settled(std::move(*dispatch_gradient_));
  dispatch_gradient_.reset();
  const at::Tensor rows = format.features_of(message).contiguous();
  // Of a token's rows each has the slots of one rank; the others' are zero.
  const at::Tensor dweights =
      at::zeros({tokens_, top_k_}, weights_.options().dtype(format.extra_dtype))
          .index_add_(0, rows_.tokens, format.extras_of(message).contiguous());
  return {kernels::scatter_rows(rows, rows_, tokens_).to(dtype_),
          dweights.to(weights_.scalar_type())};
}

at::Tensor ExpertExchange::send(const at::Tensor& h, const at::Tensor& weights) {
  if (!needs_graph(h, weights)) {
    launch_dispatch(h);
    return ticket();
  }
  return differentiable(
      [&] {
        launch_dispatch(h.detach());
        return ticket();
      },
      [self = shared_from_this()](const at::Tensor&) -> InputGradients {
        const auto [dh, dweights] = self->finish_dispatch_gradient();
        return {dh, dweights};
      },
      h, weights);
}

at::Tensor ExpertExchange::receive(const at::Tensor& ticket) {
  if (!needs_graph(ticket)) return finish_dispatch();
  return differentiable([&] { return finish_dispatch(); },
                        [self = shared_from_this()](const at::Tensor& drows) -> InputGradients {
                          self->launch_dispatch_gradient(drows);
                          return {self->ticket()};
                        },
                        ticket);
}

at::Tensor ExpertExchange::send_back(const at::Tensor& outputs, kernels::Accumulate accumulate) {
  if (!needs_graph(outputs)) {
    launch_return(outputs, accumulate);
    return ticket();
  }
  return differentiable(
      [&] {
        launch_return(outputs.detach(), accumulate);
        return ticket();
      },
      [self = shared_from_this(), outputs = outputs.detach()](const at::Tensor&) -> InputGradients {
        return {self->finish_combine_gradient(outputs)};
      },
      outputs);
}

at::Tensor ExpertExchange::combine(const at::Tensor& ticket, int64_t chunk,
                                   kernels::Accumulate accumulate) {
  if (!needs_graph(ticket)) return finish_return(chunk, accumulate);
  return differentiable([&] { return finish_return(chunk, accumulate).detach(); },
                        [self = shared_from_this(), chunk](const at::Tensor& dy) -> InputGradients {
                          self->launch_combine_gradient(chunk, dy.contiguous());
                          return {self->ticket()};
                        },
                        ticket);
}

}  // namespace farskip::model
