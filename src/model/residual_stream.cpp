#include "model/residual_stream.h"

#include <ATen/ATen.h>

#include "util/error.h"

namespace farskip::model {
namespace {

at::Tensor rows_of(const at::Tensor& x, int64_t begin, int64_t count) {
  return count == x.size(0) ? x : x.narrow(0, begin, count);
}

}  // namespace

void ResidualStream::settle_near(int64_t tokens) {
  while (next_ < near_.size() && (settled_ < tokens || !sum_.defined())) {
    const at::Tensor part = near_[next_++].wait();
    const int64_t count = part.size(0);
    if (near_.size() == 1) {
      sum_ = base_ + part;
    } else {
      if (!sum_.defined()) sum_ = at::empty_like(base_);
      at::Tensor sum = sum_.narrow(0, settled_, count);
      at::add_out(sum, base_.narrow(0, settled_, count), part);
    }
    settled_ += count;
  }
  if (near_.empty() || next_ < near_.size()) return;
  base_ = std::exchange(sum_, at::Tensor());
  near_.clear();
  settled_ = 0;
  next_ = 0;
}

void ResidualStream::settle_routed(int64_t tokens) {
  if (!arriving_.defined()) arriving_ = at::empty_like(base_);
  const auto rows = [&](const at::Tensor& x, int64_t count) {
    return x.narrow(0, routed_settled_, count);
  };
  while (!routed_->done() && (routed_settled_ < tokens || tokens == base_.size(0))) {
    const at::Tensor part = routed_->next();
    const int64_t count = part.size(0);
    at::Tensor sum = rows(arriving_, count);
    at::add_out(sum, rows(base_, count), shared_.defined() ? part + rows(shared_, count) : part);
    routed_settled_ += count;
  }
  if (!routed_->done()) return;
  full_ = std::exchange(arriving_, at::Tensor());
  routed_.reset();
  routed_settled_ = 0;
}

at::Tensor ResidualStream::partial() {
  settle_near(INT64_MAX);
  if (!shared_.defined()) return base_;
  if (!partial_.defined()) partial_ = base_ + shared_;
  return partial_;
}

at::Tensor ResidualStream::full() {
  settle_near(INT64_MAX);
  if (full_.defined()) return full_;
  if (!routed_) return shared_.defined() ? full_ = partial() : base_;
  if (routed_of_kept_)
    throw Error("residual stream: all tokens were asked for where some have no routed output");
  if (arriving_.defined()) {
    settle_routed(base_.size(0));
    return full_;
  }
  at::Tensor routed = routed_->wait();
  routed_.reset();
  if (routed_rows_.defined())
    routed = routed.index_select(0, std::exchange(routed_rows_, at::Tensor()));
  full_ = base_ + (shared_.defined() ? routed + shared_ : routed);
  return full_;
}

at::Tensor ResidualStream::partial(int64_t begin, int64_t count) {
  settle_near(begin + count);
  return rows_of(near_.empty() ? partial() : sum_, begin, count);
}

at::Tensor ResidualStream::full(int64_t begin, int64_t count) {
  settle_near(routed_ ? INT64_MAX : begin + count);
  if (!near_.empty()) return rows_of(sum_, begin, count);
  if (!routed_ || routed_rows_.defined() || routed_of_kept_) return rows_of(full(), begin, count);
  settle_routed(begin + count);
  return rows_of(routed_ ? arriving_ : full_, begin, count);
}

void ResidualStream::add(const at::Tensor& output) {
  base_ = full() + output;
  shared_ = partial_ = full_ = at::Tensor();
}

void ResidualStream::add_near(Near near, bool together) {
  base_ = full();
  shared_ = partial_ = full_ = at::Tensor();
  together_ = together;
  if (auto* scattered = std::get_if<Scattered>(&near))
    scattered_ = std::move(*scattered);
  else
    near_ = std::get<std::vector<comm::Pending>>(std::move(near));
}

at::Tensor ResidualStream::partial(Scattered::Part& part) {
  const at::Tensor sum = part.sum.wait();
  return base_.index_select(0, part.tokens) + sum;
}

void ResidualStream::add_routed(RoutedOutput output, const at::Tensor& rows) {
  if (routed_ || shared_.defined())
    throw Error("residual stream: a routed output was added before the last one was settled");
  routed_.emplace(std::move(output));
  routed_of_kept_ = rows.defined();
}

void ResidualStream::add_shared(at::Tensor output) {
  if (shared_.defined() || full_.defined())
    throw Error("residual stream: a shared output came after its layer was settled");
  shared_ = std::move(output);
}

void ResidualStream::keep(const at::Tensor& rows) {
  if (!near_.empty() || arriving_.defined())
    throw Error("residual stream: tokens were dropped while some were in flight");
  for (at::Tensor* term : {&base_, &shared_, &partial_, &full_})
    if (term->defined()) *term = term->index_select(0, rows);
  if (scattered()) base_ = base_ + std::exchange(scattered_, {}).kept->wait();
  if (routed_ && !std::exchange(routed_of_kept_, false)) routed_rows_ = rows;
}

ResidualStream::Terms ResidualStream::release() {
  settle_near(INT64_MAX);
  return {std::move(base_), std::move(shared_), std::move(full_),
          std::exchange(routed_, std::nullopt)};
}

}  // namespace farskip::model
