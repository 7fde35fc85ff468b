#include "serve/engine_backend.h"

#include "util/error.h"

namespace farskip::serve {

/// Knows whether on_finish has come, and makes sure that it comes once.
class EngineBackend::Watched final : public engine::Listener,
                                     public std::enable_shared_from_this<Watched> {
 public:
  Watched(EngineBackend& backend, std::shared_ptr<engine::Listener> listener)
      : backend_(backend), listener_(std::move(listener)) {}

  void on_prompt(const std::vector<engine::Token>& tokens) override {
    listener_->on_prompt(tokens);
  }
  bool on_token(const engine::Token& token) override { return listener_->on_token(token); }
  void on_finish(const engine::Outcome& outcome) override {
    const auto alive = shared_from_this();
    if (backend_.forget(alive)) listener_->on_finish(outcome);
  }

 private:
  EngineBackend& backend_;
  std::shared_ptr<engine::Listener> listener_;
};

EngineBackend::EngineBackend(const model::Model& model, engine::EngineOptions options)
    : engine_(model, std::move(options)), thread_([this] { run(); }) {}

EngineBackend::~EngineBackend() {
  stopping_ = true;
  engine_.wake();
  thread_.join();
}

EngineBackend::Id EngineBackend::submit(engine::Request request,
                                        std::shared_ptr<engine::Listener> listener) {
  const auto watched = std::make_shared<Watched>(*this, std::move(listener));
  {
    const std::lock_guard lock(mutex_);
    if (failure_) throw Error("the engine failed: " + *failure_);
    open_.insert(watched);
  }
  try {
    return engine_.submit(std::move(request), watched);
  } catch (...) {
    forget(watched);
    throw;
  }
}

std::optional<std::string> EngineBackend::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void EngineBackend::run() {
  try {
    while (!stopping_)
      if (engine_.wait()) engine_.step();
  } catch (const std::exception& error) {
    const std::string what = error.what();
    fail(what.substr(0, what.find('\n')));
  }
}

void EngineBackend::fail(const std::string& error) {
  std::set<std::shared_ptr<Watched>> open;
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    open = open_;
  }
  for (const auto& listener : open)
    listener->on_finish({.finish = engine::Finish::failed, .error = error});
}

bool EngineBackend::forget(const std::shared_ptr<Watched>& listener) {
  const std::lock_guard lock(mutex_);
  return open_.erase(listener) > 0;
}

}  // namespace farskip::serve
