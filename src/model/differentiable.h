// One autograd node from two closures: how a value is computed, and how its gradient goes back.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace farskip::model {

/// Gradients of the inputs; undefined where there is none.
struct InputGradients {
  at::Tensor a, b, c;
};
using Backward = std::function<InputGradients(const at::Tensor& gradient)>;

/// compute() as a function of `a`, `b` and `c` (any may be undefined; they decide whether a node is
/// made). `backward` may capture whatever it needs but the result itself (a detached one it may);
/// it is dropped, with its captures, as soon as it has run, so a graph can be walked once.
at::Tensor differentiable(const std::function<at::Tensor()>& compute, Backward backward,
                          const at::Tensor& a, const at::Tensor& b = {}, const at::Tensor& c = {});

/// The same with several results, all defined. `backward` gets their gradients, undefined where
/// there is none.
using Tensors = std::vector<at::Tensor>;
using BackwardOfMany = std::function<InputGradients(const Tensors& gradients)>;
Tensors differentiable_many(const std::function<Tensors()>& compute, BackwardOfMany backward,
                            const at::Tensor& a, const at::Tensor& b = {},
                            const at::Tensor& c = {});

/// Whether a result computed from these needs a node.
bool needs_graph(const at::Tensor& a, const at::Tensor& b = {}, const at::Tensor& c = {});

}  // namespace farskip::model
