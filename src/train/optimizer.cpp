#include "train/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kernels/adamw.h"
#include "util/error.h"

namespace farskip::train {
namespace {

/// Sum of squares in float64, a slice at a time: no float64 copy of a large gradient.
double sum_of_squares(const at::Tensor& gradient) {
  constexpr int64_t kSlice = int64_t{1} << 18;
  const at::Tensor flat = gradient.detach().reshape({-1});
  double sum = 0;
  for (int64_t begin = 0; begin < flat.numel(); begin += kSlice) {
    const int64_t size = std::min(kSlice, flat.numel() - begin);
    sum += flat.narrow(0, begin, size).to(at::kDouble).square_().sum().item<double>();
  }
  return sum;
}

}  // namespace

AdamW::AdamW(const std::vector<model::Parameter*>& parameters, const AdamWOptions& options)
    : options_(options) {
  at::NoGradGuard no_grad;
  for (model::Parameter* parameter : parameters) {
    if (!parameter->trained()) continue;
    const bool known = std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.parameter->gradient.is_same(parameter->gradient) ||
             entry.parameter->gradient.is_alias_of(parameter->gradient);
    });
    if (known) continue;
    const auto wide = parameter->gradient.scalar_type();
    Entry entry{
        parameter, {}, at::zeros_like(parameter->gradient), at::zeros_like(parameter->gradient)};
    if (parameter->value.scalar_type() != wide)
      entry.master = parameter->value.detach().to(wide).contiguous();
    entries_.push_back(std::move(entry));
  }
}

double AdamW::gradient_norm() const {
  at::NoGradGuard no_grad;
  double sum = 0;
  for (const Entry& entry : entries_) sum += sum_of_squares(entry.parameter->gradient);
  return std::sqrt(sum);
}

void AdamW::step(double learning_rate, double gradient_scale) {
  at::NoGradGuard no_grad;
  ++updates_;
  for (const Entry& entry : entries_) {
    const at::Tensor value = entry.parameter->value.detach();
    kernels::adamw(value, entry.master, entry.parameter->gradient.detach(), entry.first,
                   entry.second,
                   {.lr = learning_rate,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .eps = options_.eps,
                    .weight_decay = value.dim() >= 2 ? options_.weight_decay : 0,
                    .gradient_scale = gradient_scale,
                    .step = updates_});
  }
}

void AdamW::zero_gradients() {
  at::NoGradGuard no_grad;
  for (const Entry& entry : entries_) entry.parameter->gradient.detach().zero_();
}

int64_t AdamW::elements() const {
  int64_t count = 0;
  for (const Entry& entry : entries_) count += entry.parameter->value.numel();
  return count;
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const Entry& entry : entries_) {
    tensors.emplace_back("first." + entry.parameter->name, entry.first);
    tensors.emplace_back("second." + entry.parameter->name, entry.second);
    if (entry.master.defined())
      tensors.emplace_back("master." + entry.parameter->name, entry.master);
  }
  return tensors;
}

void AdamW::restore(int64_t updates, const std::function<at::Tensor(const std::string&)>& find) {
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : state()) {
    const at::Tensor saved = find(name);
    if (saved.sizes() != tensor.sizes())
      throw InputError(util::concat("optimizer state ", name, ": found shape ", saved.sizes(),
                                    ", expected ", tensor.sizes()));
    tensor.copy_(saved);
  }
  for (const Entry& entry : entries_)
    if (entry.master.defined()) entry.parameter->value.detach().copy_(entry.master);
  updates_ = updates;
}

}  // namespace farskip::train
