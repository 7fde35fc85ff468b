#include "schedule/ending.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/rms_norm.h"

namespace farskip::schedule {

Ending::Ending(const model::Model& model, model::ResidualStream::Terms terms, Beside beside)
    : model_(model), terms_(std::move(terms)), beside_(std::move(beside)) {
  if (terms_.routed && !terms_.routed->exchanges().empty()) return;
  terms_.base = model::ResidualStream(std::move(terms_)).full();  // it is all there
  terms_.shared = terms_.full = at::Tensor();
  terms_.routed.reset();
}

int64_t Ending::chunks() const {
  return terms_.routed ? terms_.routed->chunks() : 1;
}

int64_t Ending::begin(int64_t chunk) const {
  if (terms_.routed) return terms_.routed->chunk_begin(chunk);
  return chunk * terms_.base.size(0);
}

at::Tensor Ending::hidden(int64_t chunk) {
  const at::NoGradGuard no_grad;
  const int64_t first = begin(chunk), count = begin(chunk + 1) - first;
  x_ = terms_.base.detach().narrow(0, first, count);
  if (terms_.routed) {
    const at::Tensor routed = terms_.routed->wait(chunk);
    x_ = x_ + (terms_.shared.defined() ? routed + terms_.shared.detach().narrow(0, first, count)
                                       : routed);
  }
  auto normed =
      kernels::rms_norm(x_, model_.weights.final_norm.value.detach(), model_.config.norm_eps);
  rstd_ = normed.rstd;
  return normed.y;
}

void Ending::gradient(int64_t chunk, const at::Tensor& d_hidden) {
  const at::NoGradGuard no_grad;
  const model::Parameter& norm = model_.weights.final_norm;
  const at::Tensor dx = kernels::rms_norm_backward(d_hidden, x_, norm.value.detach(), rstd_,
                                                   norm.gradient, /*need_grad_x=*/true);
  if (chunks() == 1) {
    dx_ = dx;
  } else {
    if (!dx_.defined()) dx_ = at::empty_like(terms_.base);
    dx_.narrow(0, begin(chunk), dx.size(0)).copy_(dx);
  }
  if (terms_.routed) terms_.routed->launch_gradient(chunk, dx);
}

void Ending::pause(int64_t chunk) const {
  if (!beside_.turns) return;
  const auto before = [&](int64_t c) { return (beside_.layers * c + chunks() - 1) / chunks(); };
  const int64_t layers = before(chunk + 1) - before(chunk);
  for (int64_t turn = 1; turn < layers * beside_.waits; ++turn) beside_.turns->hand_over();
}

void Ending::backward(std::vector<at::Tensor> roots, std::vector<at::Tensor> gradients) {
  if (const auto& queue = model_.weights.final_norm.queue) queue->pass(model_.config.depth());
  const auto add = [&](const at::Tensor& root, const at::Tensor& gradient) {
    if (!root.defined()) return;
    roots.push_back(root);
    gradients.push_back(gradient);
  };
  add(terms_.base, dx_);
  add(terms_.shared, dx_);
  if (terms_.routed) add(terms_.routed->ticket(), at::empty_like(terms_.routed->ticket()));
  torch::autograd::backward(roots, gradients);
}

}  // namespace farskip::schedule
