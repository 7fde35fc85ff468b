// An engine that says what it is told: it repeats the prompt, over and over.
#pragma once
#include <condition_variable>
#include <limits>
#include <map>
#include <mutex>
#include <thread>

#include "serve/backend.h"
#include "util/error.h"

namespace farskip::serve {

class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(int64_t max_sequence = 4096)
      : max_sequence_(max_sequence), thread_([this] { run(); }) {}
  ~FakeBackend() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Id submit(engine::Request request, std::shared_ptr<engine::Listener> listener) override {
    util::require(!request.prompt.empty(), "prompt", "nothing", "tokens");
    const std::lock_guard lock(mutex_);
    if (failure_) throw Error(*failure_);
    figures_.prompt_tokens += static_cast<int64_t>(request.prompt.size());
    last_ = request;
    live_.emplace(++ids_, Sequence{std::move(request), std::move(listener)});
    changed_.notify_all();
    return ids_;
  }
  void cancel(Id id) override {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    if (found != live_.end()) found->second.cancelled = true;
    changed_.notify_all();
  }
  engine::EngineFigures figures() const override {
    const std::lock_guard lock(mutex_);
    engine::EngineFigures figures = figures_;
    figures.running = static_cast<int64_t>(live_.size());
    figures.pages = 100;
    figures.page_tokens = 16;
    return figures;
  }
  measure::StepRecorder& steps() override { return steps_; }
  int64_t max_sequence() const override { return max_sequence_; }
  std::optional<std::string> failure() const override {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  /// Tokens come only while it is not paused; what is cancelled ends all the same.
  void pause(bool paused) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    changed_.notify_all();
  }
  /// No sequence gets more tokens than this.
  void hold_at(int64_t tokens) {
    const std::lock_guard lock(mutex_);
    most_tokens_ = tokens;
    changed_.notify_all();
  }
  void fail(const std::string& error) {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    changed_.notify_all();
  }
  int64_t cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  engine::Request last_request() const {
    const std::lock_guard lock(mutex_);
    return *last_;
  }

 private:
  struct Sequence {
    engine::Request request;
    std::shared_ptr<engine::Listener> listener;
    int64_t generated = 0;
    bool cancelled = false;
  };

  static engine::Token token_of(const engine::Request& request, int64_t id, int64_t place) {
    engine::Token token{id};
    if (!request.log_probabilities) return token;
    token.log_probabilities.emplace();
    token.log_probabilities->chosen = -0.25 * static_cast<double>(place + 1);
    for (int64_t k = 0; k < *request.log_probabilities; ++k)
      token.log_probabilities->top.emplace_back((id + k) % 4096,
                                                token.log_probabilities->chosen - 1.0 * k);
    return token;
  }

  /// One step of a sequence, outside the lock; its outcome when it ends.
  static std::optional<engine::Outcome> step(Sequence& sequence) {
    const engine::Request& request = sequence.request;
    const auto size = static_cast<int64_t>(request.prompt.size());
    engine::Outcome outcome{.prompt_tokens = size, .queued_ms = 1, .ttft_ms = 20};
    if (sequence.generated == 0 && request.prompt_log_probabilities) {
      std::vector<engine::Token> prompt;
      for (int64_t k = 1; k < size; ++k) prompt.push_back(token_of(request, request.prompt[k], k));
      sequence.listener->on_prompt(prompt);
    }
    bool goes_on = sequence.generated < request.max_new_tokens;
    outcome.finish = engine::Finish::length;
    if (goes_on) {
      const int64_t id = request.prompt[sequence.generated % size];
      goes_on = sequence.listener->on_token(token_of(request, id, sequence.generated++));
      if (!goes_on) outcome.finish = engine::Finish::stop;
    }
    outcome.new_tokens = sequence.generated;
    if (goes_on && sequence.generated < request.max_new_tokens) return std::nullopt;
    return outcome;
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      std::vector<Id> ready;
      for (const auto& [id, sequence] : live_)
        if ((!paused_ && sequence.generated < most_tokens_) || sequence.cancelled || failure_)
          ready.push_back(id);
      if (ready.empty()) {
        changed_.wait(lock);
        continue;
      }
      for (const Id id : ready) {
        Sequence sequence = live_.at(id);
        const auto failure = failure_;
        std::optional<engine::Outcome> outcome;
        lock.unlock();
        if (failure)
          outcome = engine::Outcome{.finish = engine::Finish::aborted, .error = *failure};
        else if (sequence.cancelled)
          outcome = engine::Outcome{.finish = engine::Finish::cancelled};
        else
          outcome = step(sequence);
        if (outcome) sequence.listener->on_finish(*outcome);
        lock.lock();
        live_.at(id).generated = sequence.generated;
        if (!outcome) continue;
        cancelled_ += outcome->finish == engine::Finish::cancelled;
        figures_.new_tokens += sequence.generated;
        live_.erase(id);
      }
    }
  }

  const int64_t max_sequence_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Id, Sequence> live_;
  engine::EngineFigures figures_;
  measure::StepRecorder steps_;
  std::optional<engine::Request> last_;
  Id ids_ = 0;
  int64_t cancelled_ = 0, most_tokens_ = std::numeric_limits<int64_t>::max();
  bool paused_ = false, stopping_ = false;
  std::optional<std::string> failure_;
  std::thread thread_;
};

}  // namespace farskip::serve
