#include "kernels/generic.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kernels/opmath.h"

namespace farskip::kernels::generic {

using at::Tensor;

RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor lifted = x.to(opmath(x));
  const Tensor rstd = lifted.square().mean(-1).add(eps).rsqrt();
  return {(lifted * rstd.unsqueeze(-1)).to(x.scalar_type()) * weight, rstd};
}

Tensor rms_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& weight,
                         const Tensor& rstd, const Tensor& grad_weight_accumulator,
                         bool need_grad_x) {
  const auto dtype = opmath(x);
  const Tensor scale = rstd.unsqueeze(-1);
  const Tensor normal = x.to(dtype) * scale;
  const Tensor grad = grad_y.to(dtype);
  if (grad_weight_accumulator.defined()) grad_weight_accumulator.add_((grad * normal).sum(0));
  if (!need_grad_x) return {};
  const Tensor scaled = grad * weight.to(dtype);
  return (scale * (scaled - normal * (scaled * normal).mean(-1, true))).to(x.scalar_type());
}

Tensor swiglu(const Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0].to(opmath(gate_up))).to(gate_up.scalar_type()) * halves[1];
}

Tensor swiglu_backward(const Tensor& grad, const Tensor& gate_up) {
  const auto dtype = gate_up.scalar_type();
  const auto halves = gate_up.to(opmath(gate_up)).chunk(2, -1);
  const Tensor lifted = grad.to(opmath(gate_up));
  const Tensor grad_gate = at::silu_backward(lifted * halves[1], halves[0]);
  const Tensor grad_up = lifted * at::silu(halves[0]).to(dtype).to(lifted.scalar_type());
  return at::cat({grad_gate, grad_up}, -1).to(dtype);
}

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin, bool interleaved, bool inverse) {
  const int64_t half = x.size(-1) / 2;
  const Tensor lifted = x.to(opmath(x));
  const Tensor pairs = interleaved ? lifted.unflatten(-1, {half, 2})
                                   : lifted.unflatten(-1, {2, half}).transpose(-1, -2);
  const Tensor c = cos.unsqueeze(1);
  const Tensor s = inverse ? -sin.unsqueeze(1) : sin.unsqueeze(1);
  const Tensor a = pairs.select(-1, 0);
  const Tensor b = pairs.select(-1, 1);
  const Tensor first = a * c - b * s;
  const Tensor second = b * c + a * s;
  const Tensor joined =
      interleaved ? at::stack({first, second}, -1).flatten(-2) : at::cat({first, second}, -1);
  return joined.to(x.scalar_type());
}

Tensor gather_rows(const Tensor& x, const Tensor& tokens) {
  return x.index_select(0, tokens);
}

Tensor scatter_rows(const Tensor& grad, const Plan& plan, int64_t tokens) {
  Tensor sum = at::zeros({tokens, grad.size(1)}, grad.options().dtype(opmath(grad)));
  if (plan.rows == 0) return sum.to(grad.scalar_type());
  for (int64_t j = 0; j < plan.top_k; ++j) {
    const Tensor row = plan.rows_of_token.select(1, j);
    sum.add_(grad.index_select(0, row.clamp_min(0)).mul_(row.ge(0).unsqueeze(-1)));
  }
  return sum.to(grad.scalar_type());
}

namespace {

// weights[token, slot] of the j-th pair of every token in expert order: [N].
Tensor weights_in_expert_order(const Tensor& weights, const Plan& plan, int64_t j) {
  const Tensor pairs = plan.pairs.index_select(0, plan.rows_of_token.select(1, j));
  return weights.reshape({-1}).index_select(0, pairs);
}

}  // namespace

Tensor combine(const Tensor& outputs, const Tensor& weights, const Plan& plan,
               Accumulate accumulate) {
  const auto dtype = accumulate == Accumulate::kOpmath ? opmath(outputs) : outputs.scalar_type();
  Tensor sum = at::zeros({weights.size(0), outputs.size(1)}, outputs.options().dtype(dtype));
  for (int64_t j = 0; j < plan.top_k; ++j) {
    const Tensor rows = outputs.index_select(0, plan.rows_of_token.select(1, j)).to(dtype);
    sum.add_(rows * weights_in_expert_order(weights, plan, j).to(dtype).unsqueeze(-1));
  }
  return sum.to(outputs.scalar_type());
}

CombineGrad combine_backward(const Tensor& grad, const Tensor& outputs, const Tensor& weights,
                             const Plan& plan) {
  const auto dtype = opmath(outputs);
  const Tensor rows = grad.index_select(0, plan.tokens).to(dtype);
  const Tensor scale = weights.reshape({-1}).index_select(0, plan.pairs).to(dtype);
  Tensor grad_weights = at::zeros({weights.numel()}, weights.options());
  grad_weights.index_copy_(0, plan.pairs,
                           (rows * outputs.to(dtype)).sum(-1).to(weights.scalar_type()));
  return {(rows * scale.unsqueeze(-1)).to(outputs.scalar_type()),
          grad_weights.view(weights.sizes())};
}

Tensor small_linear(const Tensor& x, const Tensor& weight) {
  const auto dtype = opmath(x);
  return at::mm(x.to(dtype), weight.to(dtype).t()).to(x.scalar_type());
}

Tensor small_batched_linear(const Tensor& x, const Tensor& weight) {
  const auto dtype = opmath(x);
  return at::bmm(x.to(dtype).transpose(0, 1), weight.to(dtype).transpose(1, 2))
      .transpose(0, 1)
      .to(x.scalar_type())
      .contiguous();
}

Tensor small_batched_linear_transposed(const Tensor& x, const Tensor& weight) {
  const auto dtype = opmath(x);
  return at::bmm(x.to(dtype).transpose(0, 1), weight.to(dtype))
      .transpose(0, 1)
      .to(x.scalar_type())
      .contiguous();
}

Tensor small_experts(const Tensor& x, const Tensor& gate_up, const Tensor& down,
                     const Tensor& experts, const Tensor& weights, Accumulate accumulate) {
  const Plan order = kernels::plan(experts, gate_up.size(0));
  const Tensor rows = gather_rows(x, order.tokens);
  Tensor outputs = at::empty_like(rows);
  for (int64_t e = 0; e < gate_up.size(0); ++e) {
    const int64_t begin = order.offsets[e];
    const int64_t end = order.offsets[e + 1];
    if (begin == end) continue;
    const Tensor hidden = swiglu(small_linear(rows.slice(0, begin, end), gate_up[e]));
    outputs.slice(0, begin, end).copy_(small_linear(hidden, down[e]));
  }
  return generic::combine(outputs, weights, order, accumulate);
}

Tensor decode_attention(const Tensor& q, const Tensor& keys, const Tensor& values,
                        std::span<const CachedSequence> sequences, double scale) {
  const auto dtype = opmath(q);
  const int64_t kv_heads = keys.size(2);
  const int64_t group = q.size(1) / kv_heads;
  Tensor result = at::empty({q.size(0), q.size(1), values.size(3)}, q.options());
  for (int64_t b = 0; b < q.size(0); ++b) {
    const auto& [pages, length] = sequences[b];
    const Tensor index =
        at::tensor(at::IntArrayRef(pages.data(), pages.size()), at::kLong).to(keys.device());
    const auto of = [&, length = length](const Tensor& cache) {  // [kv_heads, length, dim]
      return cache.index_select(0, index)
          .flatten(0, 1)
          .slice(0, 0, length)
          .transpose(0, 1)
          .to(dtype);
    };
    const Tensor k = of(keys), v = of(values);
    const Tensor scores =
        at::bmm(q[b].view({kv_heads, group, -1}).to(dtype), k.transpose(1, 2)).mul_(scale);
    result[b].copy_(at::bmm(scores.softmax(-1), v).view({q.size(1), -1}));
  }
  return result;
}

std::optional<int64_t> argmax(const Tensor& scores) {
  const Tensor row = scores.to(at::kDouble).contiguous();
  if (!row.isfinite().all().item<bool>()) return std::nullopt;
  const double* value = row.const_data_ptr<double>();
  return std::max_element(value, value + row.numel()) - value;
}

void adamw(Tensor value, Tensor master, const Tensor& gradient, Tensor m, Tensor v,
           const AdamWStep& step) {
  Tensor precise = master.defined() ? master : value;
  const Tensor grad = gradient * step.gradient_scale;
  m.mul_(step.beta1).add_(grad, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(grad, grad, 1 - step.beta2);
  const double correction1 = 1 - std::pow(step.beta1, step.step);
  const double correction2 = 1 - std::pow(step.beta2, step.step);
  const Tensor denominator = v.sqrt().div_(std::sqrt(correction2)).add_(step.eps);
  precise.mul_(1 - step.lr * step.weight_decay).addcdiv_(m, denominator, -step.lr / correction1);
  if (master.defined()) value.copy_(master);
}

}  // namespace farskip::kernels::generic
