// An engine on a thread of its own.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "serve/backend.h"

namespace farskip::serve {

class EngineBackend final : public Backend {
 public:
  /// `model` must outlive it. InputError as Engine's.
  EngineBackend(const model::Model& model, engine::EngineOptions options);
  /// Stops after the step that is under way.
  ~EngineBackend() override;

  Id submit(engine::Request request, std::shared_ptr<engine::Listener> listener) override;
  void cancel(Id id) override { engine_.cancel(id); }
  engine::EngineFigures figures() const override { return engine_.figures(); }
  int64_t max_sequence() const override { return engine_.max_sequence(); }
  /// What a step has thrown. All listeners have heard of it, and no step follows.
  std::optional<std::string> failure() const override;

 private:
  class Watched;

  void run();
  void fail(const std::string& error);
  /// Whether it was open.
  bool forget(const std::shared_ptr<Watched>& listener);

  engine::Engine engine_;
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
  std::set<std::shared_ptr<Watched>> open_;  ///< whose on_finish is to come
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace farskip::serve
