#include "model/ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/grouped_linear.h"
#include "kernels/product.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/small_linear.h"
#include "kernels/swiglu.h"
#include "model/differentiable.h"

namespace farskip::model {
namespace {

int64_t bytes_of(const at::Tensor& a, const at::Tensor& b) {
  return static_cast<int64_t>(a.nbytes() + b.nbytes());
}

/// gradient += a^T b.
void accumulate_product(const Parameter& parameter, const at::Tensor& a, const at::Tensor& b) {
  if (!parameter.trained()) return;
  parameter.contribute(bytes_of(a, b), [parameter, a, b] {
    kernels::add_product(parameter.gradient.detach(), a.t(), b);
  });
}

/// gradient[e] += dy_e^T x_e of every expert; an expert at a time where it may wait, so that a gap
/// of any length is filled, unless there are threads to share all of them out to.
void accumulate_grouped(const Parameter& parameter, const at::Tensor& dy, const at::Tensor& x,
                        const std::vector<int64_t>& offsets) {
  if (!parameter.trained()) return;
  const auto experts = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t each = parameter.queue && at::get_num_threads() == 1 ? 1 : experts;
  for (int64_t e = 0; e < experts; e += each) {
    const std::vector<int64_t> some(offsets.begin() + e, offsets.begin() + e + each + 1);
    if (some.front() == some.back()) continue;
    parameter.contribute(bytes_of(dy, x) * each / experts, [parameter, dy, x, some, e, each] {
      kernels::grouped_weight_gradient(dy, x, some, parameter.gradient.detach().narrow(0, e, each));
    });
  }
}

at::Tensor linear_value(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (kernels::small_linear_supported(x, weight)) {
    const at::Tensor y = kernels::small_linear(x, weight);
    return bias.defined() ? y + bias : y;
  }
  return kernels::linear(x, weight, bias);
}

}  // namespace

at::Tensor columns(const at::Tensor& x, int64_t begin, int64_t count) {
  if (needs_graph(x)) return x.narrow(-1, begin, count);
  at::DimVector sizes(x.sizes());
  sizes.back() = count;
  return x.as_strided(sizes, x.strides(), x.storage_offset() + begin * x.stride(-1));
}

at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias) {
  if (!needs_graph(x, weight.value)) return linear_value(x, weight.value, bias.value);
  return differentiable(
      [&] { return kernels::linear(x, weight.value, bias.value); },
      [x, weight, bias](const at::Tensor& dy) -> InputGradients {
        accumulate_product(weight, dy, x.detach());
        if (bias.trained())
          bias.contribute(static_cast<int64_t>(dy.nbytes()),
                          [bias, dy] { bias.accumulate(dy.sum(0)); });
        return {x.requires_grad() ? kernels::product(dy, weight.value) : at::Tensor(), {}};
      },
      x, weight.value);
}

at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps) {
  const at::Tensor rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
  if (!needs_graph(x, weight.value)) {
    const at::Tensor y = kernels::rms_norm(rows, weight.value, eps, /*need_rstd=*/false).y;
    return x.dim() == 2 ? y : y.view(x.sizes());
  }
  auto rstd = std::make_shared<at::Tensor>();
  return differentiable(
             [&] {
               auto result = kernels::rms_norm(rows, weight.value, eps);
               *rstd = result.rstd;
               return result.y;
             },
             [rows, weight, rstd](const at::Tensor& dy) -> InputGradients {
               return {kernels::rms_norm_backward(dy.contiguous(), rows, weight.value, *rstd,
                                                  weight.gradient, rows.requires_grad()),
                       {}};
             },
             rows, weight.value)
      .view(x.sizes());
}

at::Tensor embedding(const at::Tensor& tokens, const Parameter& table) {
  if (!needs_graph(table.value)) return table.value.index_select(0, tokens);
  return differentiable(
      [&] { return table.value.index_select(0, tokens); },
      [tokens, table](const at::Tensor& dy) -> InputGradients {
        if (table.trained())
          table.contribute(static_cast<int64_t>(dy.nbytes()), [tokens, table, dy] {
            table.gradient.detach().index_add_(0, tokens, dy.to(table.gradient.scalar_type()));
          });
        return {};
      },
      table.value);
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  if (!needs_graph(gate_up)) return kernels::swiglu(gate_up);
  return differentiable([&] { return kernels::swiglu(gate_up); },
                        [gate_up](const at::Tensor& dy) -> InputGradients {
                          return {kernels::swiglu_backward(dy.contiguous(), gate_up), {}};
                        },
                        gate_up);
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                bool interleaved) {
  if (!needs_graph(x)) return kernels::rope(x, cos, sin, interleaved);
  return differentiable([&] { return kernels::rope(x, cos, sin, interleaved); },
                        [cos, sin, interleaved](const at::Tensor& dy) -> InputGradients {
                          return {kernels::rope(dy.contiguous(), cos, sin, interleaved, true), {}};
                        },
                        x);
}

at::Tensor gather_rows(const at::Tensor& x, const kernels::Plan& plan) {
  if (!needs_graph(x)) return kernels::gather_rows(x, plan.tokens);
  return differentiable([&] { return kernels::gather_rows(x, plan.tokens); },
                        [plan, tokens = x.size(0)](const at::Tensor& dy) -> InputGradients {
                          return {kernels::scatter_rows(dy.contiguous(), plan, tokens), {}};
                        },
                        x);
}

at::Tensor grouped_linear(const at::Tensor& x, const kernels::Plan& plan, const Parameter& weight) {
  if (!needs_graph(x, weight.value)) return kernels::grouped_linear(x, plan.offsets, weight.value);
  return differentiable(
      [&] { return kernels::grouped_linear(x, plan.offsets, weight.value); },
      [x, offsets = plan.offsets, weight](const at::Tensor& gradient) -> InputGradients {
        const at::Tensor dy = gradient.contiguous();
        accumulate_grouped(weight, dy, x.detach(), offsets);
        return {x.requires_grad() ? kernels::grouped_linear_transposed(dy, offsets, weight.value)
                                  : at::Tensor(),
                {}};
      },
      x, weight.value);
}

at::Tensor combine(const at::Tensor& outputs, const at::Tensor& weights, const kernels::Plan& plan,
                   kernels::Accumulate accumulate) {
  if (!needs_graph(outputs, weights)) return kernels::combine(outputs, weights, plan, accumulate);
  return differentiable([&] { return kernels::combine(outputs, weights, plan, accumulate); },
                        [outputs, weights, plan](const at::Tensor& dy) -> InputGradients {
                          auto gradients =
                              kernels::combine_backward(dy.contiguous(), outputs, weights, plan);
                          return {gradients.outputs, gradients.weights};
                        },
                        outputs, weights);
}

}  // namespace farskip::model
