#include "model/residual_stream.h"

#include <ATen/ATen.h>

#include "util/error.h"

namespace farskip::model {

at::Tensor ResidualStream::partial() {
  if (!shared_.defined()) return base_;
  if (!partial_.defined()) partial_ = base_ + shared_;
  return partial_;
}

at::Tensor ResidualStream::full() {
  if (full_.defined()) return full_;
  if (!routed_) return shared_.defined() ? full_ = partial() : base_;
  const at::Tensor routed = routed_->wait();
  routed_.reset();
  full_ = base_ + (shared_.defined() ? routed + shared_ : routed);
  return full_;
}

void ResidualStream::add(const at::Tensor& output) {
  base_ = full() + output;
  shared_ = partial_ = full_ = at::Tensor();
}

void ResidualStream::add_routed(RoutedOutput output) {
  if (routed_ || shared_.defined())
    throw Error("residual stream: a routed output was added before the last one was settled");
  routed_.emplace(std::move(output));
}

void ResidualStream::add_shared(at::Tensor output) {
  if (shared_.defined() || full_.defined())
    throw Error("residual stream: a shared output came after its layer was settled");
  shared_ = std::move(output);
}

ResidualStream::Terms ResidualStream::release() {
  return {std::move(base_), std::move(shared_), std::move(full_),
          std::exchange(routed_, std::nullopt)};
}

}  // namespace farskip::model
