#include "schedule/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/differentiable.h"

namespace farskip::schedule {
namespace {

using model::ResidualStream;
using model::RoutedOutput;
using Terms = ResidualStream::Terms;

/// Where the third tensor of a stream's terms comes from.
struct Third {
  enum class Kind { none, full, routed, ticket } kind = Kind::none;
  model::Exchanges exchanges;  ///< of a ticket
  kernels::Accumulate accumulate = kernels::Accumulate::kOpmath;
};

/// Terms as base, shared and one more tensor.
model::Tensors tensors_of(Terms& terms, Third& third) {
  using Kind = Third::Kind;
  if (terms.full.defined()) {
    third = {Kind::full};
    return {terms.base, terms.shared, terms.full};
  }
  if (!terms.routed) {
    third = {Kind::none};
    return {terms.base, terms.shared, {}};
  }
  if (terms.routed->exchanges().empty()) {
    third = {Kind::routed};
    return {terms.base, terms.shared, terms.routed->wait()};
  }
  third = {Kind::ticket, terms.routed->exchanges(), terms.routed->accumulate()};
  return {terms.base, terms.shared, terms.routed->ticket()};
}

ResidualStream stream_of(const model::Tensors& tensors, const Third& third) {
  using Kind = Third::Kind;
  Terms terms{tensors[0], tensors[1], {}, {}};
  if (third.kind == Kind::full) terms.full = tensors[2];
  if (third.kind == Kind::routed) terms.routed.emplace(comm::Pending(tensors[2]));
  if (third.kind == Kind::ticket)
    terms.routed.emplace(third.exchanges, tensors[2], third.accumulate);
  return ResidualStream(std::move(terms));
}

model::Tensors detached(model::Tensors tensors) {
  for (at::Tensor& tensor : tensors)
    if (tensor.defined()) tensor = tensor.detach();
  return tensors;
}

/// The layer's backward pass: once more forward, now with a graph.
model::InputGradients run_back(const RunLayer& run, const model::Tensors& inputs,
                               const Third& input_third, const LayerTrace& trace,
                               const model::Tensors& gradients) {
  const at::AutoGradMode with_graph(true);
  model::Tensors leaves, wanted;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach().requires_grad_(true) : input);
    if (input.defined()) wanted.push_back(leaves.back());
  }
  ResidualStream stream = stream_of(leaves, input_third);
  const LayerTrace again = run(stream, &trace);
  Terms terms = stream.release();
  Third third;
  model::Tensors outputs = tensors_of(terms, third);
  if (again.routes) outputs.push_back(again.routes->scores);
  std::erase_if(outputs, [](const at::Tensor& output) { return !output.defined(); });
  model::Tensors roots, root_gradients;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (gradients[i].defined() && outputs[i].requires_grad()) {
      roots.push_back(outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
  const auto found = torch::autograd::grad(roots, wanted, root_gradients, /*retain_graph=*/false,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  model::Tensors by_input(3);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) by_input[i] = found[next++];
  return {by_input[0], by_input[1], by_input[2]};
}

}  // namespace

LayerTrace run_recomputed(const RunLayer& run, ResidualStream& stream) {
  Terms before = stream.release();
  Third input_third, output_third;
  const model::Tensors inputs = tensors_of(before, input_third);
  before.routed.reset();
  const auto trace = std::make_shared<LayerTrace>();
  std::vector<bool> there;  // an autograd node has no undefined results
  model::Tensors results = model::differentiable_many(
      [&] {
        // With a graph, which is dropped: functions choose other kernels where none is wanted, and
        // the second run is to give the same bits.
        const at::AutoGradMode with_graph(true);
        ResidualStream own = stream_of(detached(inputs), input_third);
        *trace = run(own, nullptr);
        Terms terms = own.release();
        model::Tensors found = detached(tensors_of(terms, output_third));
        if (trace->routes) {
          trace->routes->weights = trace->routes->weights.detach();
          trace->routes->scores = trace->routes->scores.detach();
          found.push_back(trace->routes->scores);
        }
        for (const at::Tensor& one : found) there.push_back(one.defined());
        std::erase_if(found, [](const at::Tensor& one) { return !one.defined(); });
        return found;
      },
      [run, inputs, input_third, trace](const model::Tensors& gradients) {
        return run_back(run, inputs, input_third, *trace, gradients);
      },
      inputs[0], inputs[1], inputs[2]);
  model::Tensors outputs(there.size());
  for (size_t i = 0, next = 0; i < there.size(); ++i)
    if (there[i]) outputs[i] = results[next++];
  stream = stream_of(outputs, output_third);
  LayerTrace found = *trace;
  if (found.routes) found.routes->scores = outputs.back();
  return found;
}

}  // namespace farskip::schedule
