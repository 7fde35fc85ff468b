// Who looks on while an engine makes its forward passes.
#pragma once
#include <cstdint>

#include "schedule/part_log.h"

namespace farskip::engine {

/// Called by the thread that steps the engine.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// A pass begins. Where it is to write its parts down; null: nowhere.
  virtual schedule::PartLog* begin_step() = 0;
  /// Its tokens are chosen: of so many sequences it took so many tokens, one each where it only
  /// decoded. Not called for a pass that failed.
  virtual void end_step(int64_t sequences, int64_t tokens) = 0;
};

}  // namespace farskip::engine
