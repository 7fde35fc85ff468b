#include "serve/engine_backend.h"

#include <ATen/Parallel.h>

#include "util/one_line.h"

namespace farskip::serve {

namespace {

engine::EngineOptions observed(engine::EngineOptions options, engine::StepObserver& observer) {
  options.observer = &observer;
  return options;
}

}  // namespace

EngineBackend::EngineBackend(const model::Model& model, engine::EngineOptions options)
    : steps_(options.ranks),
      engine_(model, observed(std::move(options), steps_)),
      thread_([this] { run(); }) {}

EngineBackend::~EngineBackend() {
  stopping_ = true;
  engine_.close();
  thread_.join();
}

std::optional<std::string> EngineBackend::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void EngineBackend::run() {
  at::init_num_threads();  // what was set for the process holds for a thread once it asks
  try {
    while (!stopping_)
      if (engine_.wait()) engine_.step();
    engine_.step();  // which finds it closed
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    failure_ = util::one_line(error);
  }
}

}  // namespace farskip::serve
