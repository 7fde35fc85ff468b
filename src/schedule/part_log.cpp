#include "schedule/part_log.h"

#include "model/differentiable.h"

namespace farskip::schedule {

std::string to_string(Part part) {
  switch (part) {
    case Part::attention_prepare:
      return "attention a";
    case Part::attend:
      return "attention b";
    case Part::dense:
      return "dense MLP";
    case Part::route:
      return "route";
    case Part::experts:
      return "experts";
    case Part::combine:
      return "combine";
    case Part::shared:
      return "shared experts";
    case Part::head:
      return "head";
    case Part::weight_gradients:
      return "last weight gradients";
    case Part::optimizer:
      return "optimizer";
  }
  return "";
}

void PartLog::enter(Part part, int64_t layer, bool backward) {
  leave();
  const auto now = comm::Clock::now();
  spans.push_back({part, layer, backward, now, now});
  open_ = true;
}

void PartLog::leave() {
  if (open_) spans.back().end = comm::Clock::now();
  open_ = false;
}

at::Tensor PartLog::entered_by_gradient(const at::Tensor& x, Part part, int64_t layer) {
  if (!model::needs_graph(x)) return x;
  return model::differentiable([&] { return x.detach(); },
                               [this, part, layer](const at::Tensor& dy) -> model::InputGradients {
                                 enter(part, layer, /*backward=*/true);
                                 return {dy};
                               },
                               x);
}

}  // namespace farskip::schedule
