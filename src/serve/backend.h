// What a server needs of an engine.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "measure/step_recorder.h"

namespace farskip::serve {

/// Every function may be called from any thread.
class Backend {
 public:
  using Id = uint64_t;

  virtual ~Backend() = default;
  /// As Engine::submit. Error after a failure().
  virtual Id submit(engine::Request request, std::shared_ptr<engine::Listener> listener) = 0;
  virtual void cancel(Id id) = 0;
  virtual engine::EngineFigures figures() const = 0;
  /// What its forward passes did, on this rank.
  virtual measure::StepRecorder& steps() = 0;
  virtual int64_t max_sequence() const = 0;
  /// Why it can't go on, one line; nothing while it can.
  virtual std::optional<std::string> failure() const = 0;
};

}  // namespace farskip::serve
