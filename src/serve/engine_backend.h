// An engine on a thread of its own.
#pragma once
#include <atomic>
#include <mutex>
#include <thread>

#include "serve/backend.h"

namespace farskip::serve {

class EngineBackend final : public Backend {
 public:
  /// `model` must outlive it. InputError as Engine's.
  EngineBackend(const model::Model& model, engine::EngineOptions options);
  /// Stops after the step that is under way; what still runs is cancelled.
  ~EngineBackend() override;

  Id submit(engine::Request request, std::shared_ptr<engine::Listener> listener) override {
    return engine_.submit(std::move(request), std::move(listener));
  }
  void cancel(Id id) override { engine_.cancel(id); }
  engine::EngineFigures figures() const override { return engine_.figures(); }
  measure::StepRecorder& steps() override { return steps_; }
  int64_t max_sequence() const override { return engine_.max_sequence(); }
  /// What a step has thrown. It has ended all sequences, and no step follows.
  std::optional<std::string> failure() const override;

 private:
  void run();

  measure::StepRecorder steps_;
  engine::Engine engine_;
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace farskip::serve
