#include "engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "engine/ledger.h"
#include "engine/step_exchange.h"
#include "engine/worker.h"
#include "util/error.h"
#include "util/one_line.h"

namespace farskip::engine {
namespace {

/// An idle engine tells the other ranks so, and notices if one is lost.
constexpr auto kHeartbeat = std::chrono::milliseconds(250);

void check(const EngineOptions& options) {
  util::require(options.max_sequences > 0, "--max-sequences", options.max_sequences,
                "a positive number");
  util::require(options.max_batch_tokens >= options.max_sequences, "--max-batch-tokens",
                options.max_batch_tokens,
                util::concat("at least a token for each of ", options.max_sequences, " sequences"));
  if (options.ranks.courier && options.group.size() == 1)
    throw Error("an engine whose experts are on several ranks steps with them: found no group");
}

struct Arrival {
  Engine::Id id;
  Request request;
  std::shared_ptr<Listener> listener;
  Clock::time_point submitted;
};

/// What came from other threads since the last step.
struct Arrivals {
  std::vector<Arrival> submitted;
  std::vector<Engine::Id> cancelled;
  bool closed = false;

  bool empty() const { return submitted.empty() && cancelled.empty() && !closed; }
};

}  // namespace

struct Engine::State {
  State(const model::Model& model, EngineOptions given)
      : model(model),
        options(std::move(given)),
        worker(model, options),
        reports(options.own_sequences() ? options.group.size() : 1, worker.report()),
        ledger(
            {std::ssize(reports), reports[0].pages, options.page_tokens, options.reuse_prefixes}) {
    publish();
  }

  const model::Model& model;
  const EngineOptions options;

  // The stepping thread's.
  Worker worker;
  std::vector<Report> reports;  ///< the last of every rank; of one where all work on the same
  Ledger ledger;
  std::vector<Id> stopped;  ///< by their listeners
  int64_t steps = 0;
  bool active = false;  ///< some rank may have work, as all know alike
  bool closed = false;

  // Everybody's, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable arrived;
  Arrivals arrivals;
  bool woken = false, ended = false;
  Id last_id = 0;
  EngineFigures figures;

  News take_news();
  void settle(Report own, Clock::time_point stepped);
  void deliver(const Report& report, Clock::time_point stepped);
  void apply(News news);
  /// Closes without a word to the other ranks.
  void end_all(Finish finish, const std::string& error = {});
  void publish();
};

News Engine::State::take_news() {
  Arrivals found;
  {
    const std::lock_guard lock(mutex);
    found = std::exchange(arrivals, {});
  }
  News news;
  for (Arrival& one : found.submitted) {
    const int64_t rank = ledger.open(one.id, one.request, std::move(one.listener), one.submitted);
    news.submitted.push_back({one.id, std::move(one.request), rank});
  }
  for (const Id id : found.cancelled)
    if (ledger.end(id, Finish::cancelled)) news.dropped.push_back(id);
  news.closed = found.closed;
  return news;
}

void Engine::State::deliver(const Report& report, Clock::time_point stepped) {
  for (const Progress& one : report.progress)
    if (!ledger.deliver(one, stepped)) stopped.push_back(one.id);
}

void Engine::State::apply(News news) {
  const int64_t rank = options.own_sequences() ? options.group.rank() : 0;
  for (Submitted& one : news.submitted)
    if (one.rank == rank) worker.add(one.id, std::move(one.request));
  for (const Id id : news.dropped) worker.drop(id);
  closed = closed || news.closed;
}

/// Ends a step: its tokens go to the listeners, and all ranks hear what comes next.
void Engine::State::settle(Report own, Clock::time_point stepped) {
  News news = take_news();  // ahead of the tokens, of which the cancelled hear no more
  const bool replicated = !options.own_sequences();
  if (replicated) deliver(own, stepped);
  for (const Id id : std::exchange(stopped, {})) news.dropped.push_back(id);
  if (replicated) {
    apply(broadcast(options.group, std::move(news)));
    active = !worker.idle();
    reports.front() = worker.report();
  } else {
    // One message says both. Whom a listener stops is dropped a step later, unheard.
    Gathered all = gather(options.group, std::move(own), std::move(news));
    reports = std::move(all.reports);
    for (const Report& report : reports) deliver(report, stepped);
    active = !all.news.submitted.empty() ||
             !std::all_of(reports.begin(), reports.end(), [](const auto& one) { return one.idle; });
    apply(std::move(all.news));
  }
  if (closed) end_all(Finish::cancelled);
  publish();
}

void Engine::State::end_all(Finish finish, const std::string& error) {
  closed = true;
  active = false;
  {
    const std::lock_guard lock(mutex);
    ended = true;
  }
  take_news();
  worker.drop_all();
  for (Report& report : reports) report.running = report.pages_used = 0;
  ledger.end_all(finish, error);
  publish();
}

void Engine::State::publish() {
  EngineFigures found;
  for (const Report& report : reports) {
    found.running += report.running;
    found.pages += report.pages;
    found.pages_used += report.pages_used;
    found.preempted += report.preempted;
  }
  found.queued = std::max<int64_t>(0, ledger.size() - found.running);
  found.page_tokens = options.page_tokens;
  found.steps = steps;
  found.prompt_tokens = ledger.counts().prompt;
  found.reused_tokens = ledger.counts().reused;
  found.new_tokens = ledger.counts().generated;
  const std::lock_guard lock(mutex);
  figures = found;
}

Engine::Engine(const model::Model& model, EngineOptions options) {
  check(options);
  state_ = std::make_unique<State>(model, std::move(options));
}

Engine::~Engine() = default;

Engine::Id Engine::submit(Request request, std::shared_ptr<Listener> listener) {
  const int64_t vocabulary = state_->model.config.vocabulary;
  check(request.sampling, vocabulary);
  util::require(!request.prompt.empty(), "prompt", "no tokens", "at least one token");
  for (const int64_t token : request.prompt)
    util::require(token >= 0 && token < vocabulary, "prompt", util::concat("id ", token),
                  util::concat("ids from 0 to ", vocabulary - 1));
  util::require(request.max_new_tokens >= 0, "new tokens", request.max_new_tokens, "0 or more");
  const auto length = std::ssize(request.prompt);
  util::require(
      request.max_new_tokens <= max_sequence() - length, "sequence",
      util::concat(length, " tokens of a prompt and ", request.max_new_tokens, " new ones"),
      util::concat("at most ", max_sequence(), " together"));
  const std::lock_guard lock(state_->mutex);
  if (state_->ended) throw Error("the engine has ended");
  const Id id = ++state_->last_id;
  state_->arrivals.submitted.push_back({id, std::move(request), std::move(listener), Clock::now()});
  state_->arrived.notify_one();
  return id;
}

void Engine::cancel(Id id) {
  const std::lock_guard lock(state_->mutex);
  state_->arrivals.cancelled.push_back(id);
  state_->arrived.notify_one();
}

bool Engine::step() {
  State& state = *state_;
  if (state.closed) return false;
  try {
    if (!state.active) state.settle(state.worker.report(), Clock::now());
    if (!state.active) return false;
    const auto stepped = Clock::now();
    Report own = state.worker.step();
    ++state.steps;
    state.settle(std::move(own), stepped);
    return true;
  } catch (const std::exception& error) {
    state.end_all(Finish::aborted, util::one_line(error));
    throw;
  }
}

bool Engine::wait() {
  std::unique_lock lock(state_->mutex);
  const auto there = [&] { return state_->woken || !state_->arrivals.empty(); };
  if (!state_->active) {
    if (state_->options.group.size() > 1)
      state_->arrived.wait_for(lock, kHeartbeat, there);
    else
      state_->arrived.wait(lock, there);
  }
  return !std::exchange(state_->woken, false);
}

void Engine::close() {
  const std::lock_guard lock(state_->mutex);
  state_->arrivals.closed = true;
  state_->arrived.notify_one();
}

void Engine::follow() {
  while (!state_->closed) step();
}

void Engine::wake() {
  const std::lock_guard lock(state_->mutex);
  state_->woken = true;
  state_->arrived.notify_one();
}

int64_t Engine::max_sequence() const {
  const int64_t room = state_->worker.room();
  const int64_t positions = state_->model.config.max_positions;
  return positions > 0 ? std::min(room, positions) : room;
}

EngineFigures Engine::figures() const {
  const std::lock_guard lock(state_->mutex);
  EngineFigures found = state_->figures;
  found.queued += std::ssize(state_->arrivals.submitted);
  return found;
}

}  // namespace farskip::engine
