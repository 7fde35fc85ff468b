#include "measure/step_figures.h"

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace farskip::measure {
namespace {

using Counts = std::function<bool(const comm::Message&)>;

DirectionFigures of_messages(const comm::MessageLog& log, const Counts& counts) {
  const comm::Traffic traffic = comm::measure(log, counts);
  return {0, traffic.communication, traffic.exposed};
}

/// Of the experts' messages.
DirectionFigures direction(const comm::MessageLog& log, bool backward,
                           std::map<int64_t, DirectionFigures>& by_layer) {
  const auto counts = [&](const comm::Message& message) {
    return message.name.of_experts() && message.name.backward == backward;
  };
  for (const comm::Message& message : log.messages)
    if (message.name.of_experts()) by_layer.try_emplace(message.name.layer);
  for (auto& [layer, figures] : by_layer)
    figures = of_messages(log, [&, k = layer](const comm::Message& message) {
      return counts(message) && message.name.layer == k;
    });
  return of_messages(log, counts);
}

/// Every figure of a step, in one order: first those of which the most counts.
constexpr size_t kMost = 3;
std::vector<double*> fields(StepFigures& figures) {
  std::vector<double*> found = {&figures.time, &figures.queue_bytes, &figures.flight_bytes,
                                &figures.megabytes};
  const auto add = [&](DirectionFigures& one) {
    found.insert(found.end(), {&one.time, &one.communication, &one.exposed});
  };
  for (auto* one : {&figures.forward, &figures.backward, &figures.gradients, &figures.weights})
    add(*one);
  for (auto* by_layer : {&figures.forward_by_layer, &figures.backward_by_layer})
    for (auto& [layer, one] : *by_layer) add(one);
  return found;
}

}  // namespace

StepFigures step_figures(const comm::MessageLog& log, double time, double forward_time) {
  using Part = comm::MessageName::Part;
  StepFigures found;
  found.time = time;
  found.forward = direction(log, false, found.forward_by_layer);
  found.backward = direction(log, true, found.backward_by_layer);
  found.forward.time = forward_time;
  found.backward.time = time - forward_time;
  const auto of = [&](Part part) {
    return of_messages(log, [part](const auto& message) { return message.name.part == part; });
  };
  found.gradients = of(Part::gradients);
  found.weights = of(Part::weights);
  for (const comm::Message& message : log.messages)
    found.megabytes += static_cast<double>(message.bytes) * 1e-6;
  return found;
}

StepFigures over_ranks(StepFigures own, const comm::Group& world) {
  const auto mine = fields(own);
  std::vector<double> values;
  for (const double* field : mine) values.push_back(*field);
  const at::Tensor all =
      world.all_gather("figures", at::tensor(values, at::kDouble).unsqueeze(0)).wait();
  const at::Tensor most = all.amax(0), mean = all.mean(0);
  for (size_t i = 0; i < mine.size(); ++i)
    *mine[i] = (i < kMost ? most : mean)[static_cast<int64_t>(i)].item<double>();
  return own;
}

}  // namespace farskip::measure
