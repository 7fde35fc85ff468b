#include "model/differentiable.h"

#include <torch/csrc/autograd/custom_function.h>

#include "util/error.h"

namespace farskip::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What autograd's context can carry: an object behind an IValue.
struct Carried : torch::CustomClassHolder {
  explicit Carried(BackwardOfMany f) : backward(std::move(f)) {}
  BackwardOfMany backward;
};

constexpr const char* kBackward = "backward";

struct Operation : torch::autograd::Function<Operation> {
  static variable_list forward(AutogradContext* context, const std::function<Tensors()>& compute,
                               BackwardOfMany backward, bool zeros_for_absent,
                               const std::optional<at::Tensor>& /*a*/,
                               const std::optional<at::Tensor>& /*b*/,
                               const std::optional<at::Tensor>& /*c*/) {
    context->saved_data[kBackward] =
        c10::IValue::make_capsule(c10::make_intrusive<Carried>(std::move(backward)));
    context->set_materialize_grads(zeros_for_absent);
    return compute();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->saved_data.find(kBackward);
    if (saved == context->saved_data.end()) throw Error("backward ran twice over the same graph");
    const auto holder = saved->second.toCapsule();
    context->saved_data.clear();
    auto [a, b, c] = static_cast<Carried&>(*holder).backward(gradients);
    return {at::Tensor(), at::Tensor(), at::Tensor(), std::move(a), std::move(b), std::move(c)};
  }
};

}  // namespace

bool needs_graph(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  const auto wants = [](const at::Tensor& x) { return x.defined() && x.requires_grad(); };
  return at::GradMode::is_enabled() && (wants(a) || wants(b) || wants(c));
}

namespace {

Tensors apply(const std::function<Tensors()>& compute, BackwardOfMany backward,
              bool zeros_for_absent, const at::Tensor& a, const at::Tensor& b,
              const at::Tensor& c) {
  // Autograd refuses undefined inputs, but takes absent ones.
  const auto present = [](const at::Tensor& x) {
    return x.defined() ? std::optional(x) : std::nullopt;
  };
  return Operation::apply(compute, std::move(backward), zeros_for_absent, present(a), present(b),
                          present(c));
}

}  // namespace

Tensors differentiable_many(const std::function<Tensors()>& compute, BackwardOfMany backward,
                            const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  return apply(compute, std::move(backward), /*zeros_for_absent=*/false, a, b, c);
}

at::Tensor differentiable(const std::function<at::Tensor()>& compute, Backward backward,
                          const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  return apply([&] { return Tensors{compute()}; },
               [backward = std::move(backward)](const Tensors& gradients) {
                 return backward(gradients.front());
               },
               /*zeros_for_absent=*/true, a, b, c)
      .front();
}

}  // namespace farskip::model
