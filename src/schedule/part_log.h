// What the compute thread did when: the parts of a pass, forward and backward.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "comm/pending.h"

namespace farskip::schedule {

enum class Part {
  attention_prepare,
  attend,
  dense,
  route,
  experts,
  combine,
  shared,
  head,
  weight_gradients,  ///< that are left at the end of a step; else they fill waits
  optimizer          ///< the norm and the update, but where it fills waits
};

std::string to_string(Part part);

struct PartSpan {
  Part part;
  int64_t layer = -1;  ///< -1: of no layer
  bool backward = false;
  comm::Clock::time_point begin, end;
};

/// Spans that follow one another: a part lasts until the next one begins. Waits for messages, and
/// the weight gradients that fill them, lie inside. Used by one thread; must outlive the pass.
class PartLog {
 public:
  void enter(Part part, int64_t layer, bool backward = false);
  void leave();
  /// x, after whose gradient's arrival the part's backward is entered.
  at::Tensor entered_by_gradient(const at::Tensor& x, Part part, int64_t layer);

  std::vector<PartSpan> spans;

 private:
  bool open_ = false;
};

}  // namespace farskip::schedule
