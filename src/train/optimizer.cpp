#include "train/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/adamw.h"
#include "util/error.h"

namespace farskip::train {
namespace {

/// Sum of squares in float64, a slice at a time: no float64 copy of a large gradient.
double sum_of_squares(const at::Tensor& flat) {
  constexpr int64_t kSlice = int64_t{1} << 18;
  double sum = 0;
  for (int64_t begin = 0; begin < flat.numel(); begin += kSlice) {
    const int64_t size = std::min(kSlice, flat.numel() - begin);
    sum += flat.narrow(0, begin, size).to(at::kDouble).square_().sum().item<double>();
  }
  return sum;
}

at::Tensor part(const at::Tensor& tensor, const Owned& owned) {
  return tensor.detach().view({-1}).narrow(0, owned.begin, owned.end - owned.begin);
}

}  // namespace

std::vector<Owned> whole(const std::vector<model::Parameter*>& parameters) {
  std::vector<Owned> found;
  for (model::Parameter* parameter : parameters) {
    if (!parameter->trained()) continue;
    const bool known = std::any_of(found.begin(), found.end(), [&](const Owned& owned) {
      return owned.parameter->gradient.is_alias_of(parameter->gradient);
    });
    if (!known) found.push_back({parameter, 0, parameter->value.numel(), 0});
  }
  return found;
}

AdamW::AdamW(std::vector<Owned> owned, const AdamWOptions& options)
    : options_(options), owned_(std::move(owned)) {
  at::NoGradGuard no_grad;
  for (const Owned& one : owned_) {
    const at::Tensor gradient = part(one.parameter->gradient, one);
    Moments moments{{}, at::zeros_like(gradient), at::zeros_like(gradient)};
    if (one.parameter->value.scalar_type() != gradient.scalar_type())
      moments.master = part(one.parameter->value, one).to(gradient.scalar_type());
    moments_.push_back(std::move(moments));
  }
}

double AdamW::squared_norm() const {
  at::NoGradGuard no_grad;
  double sum = 0;
  for (const Owned& one : owned_) sum += sum_of_squares(part(one.parameter->gradient, one));
  return sum;
}

void AdamW::step(double learning_rate, double gradient_scale) {
  begin_step();
  for (size_t i = 0; i < owned_.size(); ++i) update(i, learning_rate, gradient_scale);
}

void AdamW::update(size_t index, double learning_rate, double gradient_scale, int64_t begin,
                   int64_t end) {
  at::NoGradGuard no_grad;
  const Owned& one = owned_[index];
  const Moments& moments = moments_[index];
  end = std::min(end, one.end - one.begin);
  if (begin >= end) return;
  const auto piece = [&](const at::Tensor& flat) {
    return flat.defined() ? flat.narrow(0, begin, end - begin) : flat;
  };
  kernels::adamw(piece(part(one.parameter->value, one)), piece(moments.master),
                 piece(part(one.parameter->gradient, one)), piece(moments.first),
                 piece(moments.second),
                 {.lr = learning_rate,
                  .beta1 = options_.beta1,
                  .beta2 = options_.beta2,
                  .eps = options_.eps,
                  .weight_decay = one.parameter->value.dim() >= 2 ? options_.weight_decay : 0,
                  .gradient_scale = gradient_scale,
                  .step = updates_});
}

int64_t AdamW::state_bytes() const {
  int64_t bytes = 0;
  for (const State& one : state()) bytes += static_cast<int64_t>(one.tensor.nbytes());
  return bytes;
}

std::vector<AdamW::State> AdamW::state() const {
  std::vector<State> states;
  for (size_t i = 0; i < owned_.size(); ++i) {
    const Owned& one = owned_[i];
    if (one.begin == one.end) continue;
    const std::string& name = one.parameter->name;
    const int64_t begin = one.offset + one.begin;
    states.push_back({"first." + name, begin, moments_[i].first});
    states.push_back({"second." + name, begin, moments_[i].second});
    if (moments_[i].master.defined())
      states.push_back({"master." + name, begin, moments_[i].master});
  }
  return states;
}

void AdamW::restore(int64_t updates, const Find& find) {
  at::NoGradGuard no_grad;
  for (const State& one : state()) one.tensor.copy_(find(one.name, one.begin, one.tensor.numel()));
  for (size_t i = 0; i < owned_.size(); ++i)
    if (moments_[i].master.defined())
      part(owned_[i].parameter->value, owned_[i]).copy_(moments_[i].master);
  updates_ = updates;
}

}  // namespace farskip::train
