#include "engine/engine.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "engine/news.h"
#include "engine/scheduler.h"
#include "schedule/head.h"
#include "util/error.h"
#include "util/one_line.h"

namespace farskip::engine {
namespace {

/// Rows of logits that exist at once where a prompt's are asked for.
constexpr int64_t kLogitRows = 64;
/// An idle engine tells the other ranks so, and notices if one is lost.
constexpr auto kHeartbeat = std::chrono::milliseconds(250);

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

int64_t page_count(const model::Model& model, const EngineOptions& options) {
  util::require(options.page_tokens > 0, "page", util::concat(options.page_tokens, " tokens"),
                "at least one");
  const int64_t page_bytes = cache_bytes(model, 1, 1, options.page_tokens);
  util::require(options.cache_bytes >= page_bytes, "KV cache",
                util::concat(options.cache_bytes, " bytes"),
                util::concat("at least a page of ", page_bytes));
  return options.cache_bytes / page_bytes;
}

model::Batch batch_of(const std::vector<Work>& works, at::Device device) {
  std::vector<std::vector<int64_t>> rows;
  std::vector<int64_t> past;
  for (const auto& [sequence, count] : works) {
    const auto begin = sequence->tokens.begin() + sequence->computed;
    rows.emplace_back(begin, begin + count);
    past.push_back(sequence->computed);
  }
  model::Batch batch = model::Batch::rows(rows, past, device);
  for (size_t i = 0; i < works.size(); ++i) batch.segments[i].pages = works[i].sequence->pages;
  return batch;
}

/// Whom a sequence belongs to.
struct Owner {
  std::shared_ptr<Listener> listener;
  Clock::time_point submitted;
};

class Nobody : public Listener {
 public:
  bool on_token(const Token&) override { return true; }
  void on_finish(const Outcome&) override {}
};

}  // namespace

struct Engine::State {
  State(const model::Model& model, EngineOptions options)
      : model(model),
        options(std::move(options)),
        pool(page_count(model, this->options), this->options.page_tokens,
             this->options.reuse_prefixes),
        cache(model.config, pool.pages(), pool.page_tokens(),
              at::TensorOptions(model.dtype).device(model.device)),
        scheduler(pool, {this->options.max_sequences, this->options.max_batch_tokens}) {
    done.pages = pool.pages();
    done.page_tokens = pool.page_tokens();
    publish();
  }

  const model::Model& model;
  const EngineOptions options;

  // The stepping thread's.
  PagePool pool;
  model::KvCache cache;
  Scheduler scheduler;
  EngineFigures done;

  std::vector<Id> stopped;  ///< by their listeners, for the next step: on all ranks at once
  bool closed = false;

  // Everybody's, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable arrived;
  News news;
  std::map<Id, Owner> owners;  ///< of what was submitted
  bool woken = false, ended = false;
  Id last_id = 0;
  EngineFigures figures;

  void add(News news, std::map<Id, Owner> owners);
  std::pair<News, std::map<Id, Owner>> own_news();
  void end(Id id, Finish finish, const std::string& error = {});
  /// Closes without a word to the other ranks.
  void end_all(Finish finish, const std::string& error = {});
  void run(const std::vector<Work>& works);
  void read_prompt(Sequence& sequence, int64_t first, const at::Tensor& hidden);
  void choose_tokens(const std::vector<Sequence*>& sequences, const at::Tensor& hidden);
  void add_token(Sequence& sequence, int64_t id, const at::Tensor& logits);
  void publish();
};

void Engine::State::add(News found, std::map<Id, Owner> of) {
  for (auto& [id, request] : found.submitted) {
    // Other ranks than the first compute a sequence for nobody.
    Owner owner = of.contains(id) ? of[id] : Owner{std::make_shared<Nobody>(), Clock::now()};
    scheduler.add(std::make_unique<Sequence>(id, std::move(request), std::move(owner.listener),
                                             owner.submitted));
  }
  for (const Id id : found.stopped) end(id, Finish::stop);
  for (const Id id : found.cancelled) end(id, Finish::cancelled);
  closed = closed || found.closed;
}

std::pair<News, std::map<Engine::Id, Owner>> Engine::State::own_news() {
  News own;
  std::map<Id, Owner> of;
  {
    const std::lock_guard lock(mutex);
    own = std::exchange(news, {});
    of.swap(owners);
  }
  own.stopped = std::exchange(stopped, {});
  return {std::move(own), std::move(of)};
}

void Engine::State::end_all(Finish finish, const std::string& error) {
  closed = true;
  {
    const std::lock_guard lock(mutex);
    ended = true;
  }
  auto [own, of] = own_news();
  add(std::move(own), std::move(of));
  while (const auto id = scheduler.any()) end(*id, finish, error);
  publish();
}

void Engine::State::end(Id id, Finish finish, const std::string& error) {
  const std::unique_ptr<Sequence> sequence = scheduler.remove(id);
  if (!sequence) return;
  const int64_t count = sequence->new_tokens();
  Outcome outcome{finish, error, std::ssize(sequence->request.prompt), sequence->reused, count};
  const auto begun = sequence->begun == Clock::time_point() ? Clock::now() : sequence->begun;
  outcome.queued_ms = milliseconds(begun - sequence->submitted);
  if (sequence->first_token != Clock::time_point())
    outcome.ttft_ms = milliseconds(sequence->first_token - sequence->submitted);
  if (count > 1)
    outcome.tbt_ms = milliseconds(sequence->last_token - sequence->first_token) / (count - 1);
  if (sequence->begun != Clock::time_point()) {
    done.prompt_tokens += outcome.prompt_tokens;
    done.reused_tokens += outcome.reused_tokens;
  }
  sequence->listener->on_finish(outcome);
}

/// The logits of the prompt's tokens whose predecessors are rows of `hidden`, the first of which is
/// that of position `first`.
void Engine::State::read_prompt(Sequence& sequence, int64_t first, const at::Tensor& hidden) {
  const auto& prompt = sequence.request.prompt;
  // Where the sequence was given up in between, some are known.
  int64_t at = std::max<int64_t>(first, std::ssize(sequence.prompt));
  const int64_t end = std::min(first + hidden.size(0), std::ssize(prompt) - 1);
  while (at < end) {
    const int64_t rows = std::min(kLogitRows, end - at);
    const at::Tensor logits =
        schedule::logits(model, hidden.narrow(0, at - first, rows), options.ranks);
    for (int64_t row = 0; row < rows; ++row, ++at)
      sequence.prompt.push_back(
          {prompt[at + 1], log_probabilities(logits[row], prompt[at + 1],
                                             sequence.request.log_probabilities.value_or(0))});
  }
  if (!sequence.wants_prompt()) sequence.listener->on_prompt(sequence.prompt);
}

void Engine::State::add_token(Sequence& sequence, int64_t id, const at::Tensor& logits) {
  const auto& stops = sequence.request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), id) != stops.end())
    return end(sequence.id, Finish::stop);
  Token token{id};
  if (sequence.request.log_probabilities)
    token.log_probabilities = log_probabilities(logits, id, *sequence.request.log_probabilities);
  sequence.tokens.push_back(id);
  ++done.new_tokens;
  sequence.last_token = Clock::now();
  if (sequence.new_tokens() == 1) sequence.first_token = sequence.last_token;
  const bool goes_on = sequence.listener->on_token(token);
  if (sequence.new_tokens() == sequence.request.max_new_tokens)
    end(sequence.id, goes_on ? Finish::length : Finish::stop);
  else if (!goes_on)
    stopped.push_back(sequence.id);
}

/// hidden [sequences, hidden]: of each one's last token.
void Engine::State::choose_tokens(const std::vector<Sequence*>& sequences,
                                  const at::Tensor& hidden) {
  if (sequences.empty()) return;
  const bool plain = std::all_of(sequences.begin(), sequences.end(), [](const Sequence* one) {
    return is_plain_greedy(one->request.sampling) && !one->request.log_probabilities;
  });
  std::vector<int64_t> best;
  at::Tensor logits;
  if (plain)
    best = schedule::best_tokens(model, hidden, options.ranks);
  else
    logits = schedule::logits(model, hidden, options.ranks);
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence& sequence = *sequences[i];
    const at::Tensor row = plain ? at::Tensor() : logits[static_cast<int64_t>(i)];
    const int64_t id = plain ? best[i] : sequence.sampler.sample(row);
    if (id >= 0)
      add_token(sequence, id, row);
    else  // one sequence ends, not all
      end(sequence.id, Finish::failed,
          "logits: found a value that is not finite, expected numbers");
  }
}

void Engine::State::run(const std::vector<Work>& works) {
  const c10::InferenceMode inference;
  const model::Batch batch = batch_of(works, model.device);
  // Of a sequence whose last token is in the pass, the next one is chosen; of others nothing is
  // asked for but keys and values, or all rows.
  const auto adds_token = [](const Work& work) {
    return work.count == work.sequence->remaining() && work.sequence->request.max_new_tokens > 0;
  };
  std::vector<int64_t> rows;
  int64_t row = 0;
  for (const Work& work : works) {
    const int64_t end = row + work.count;
    if (!work.sequence->wants_prompt()) row = adds_token(work) ? end - 1 : end;
    while (row < end) rows.push_back(row++);
  }
  schedule::PartLog* parts = options.observer ? options.observer->begin_step() : nullptr;
  schedule::ForwardOptions forward{.connectivity = options.connectivity,
                                   .ranks = options.ranks,
                                   .cache = &cache,
                                   .parts = parts};
  if (std::ssize(rows) < batch.size()) forward.rows = at::tensor(rows, at::kLong).to(model.device);
  const at::Tensor hidden = schedule::forward(model, batch, forward);
  if (parts) parts->enter(schedule::Part::head, /*layer=*/-1);

  std::vector<Sequence*> next;
  std::vector<int64_t> last_rows;
  row = 0;
  for (const Work& work : works) {
    Sequence& sequence = *work.sequence;
    const int64_t first = sequence.computed;
    const bool adds = adds_token(work), wants_prompt = sequence.wants_prompt();
    scheduler.done(work);
    if (wants_prompt) read_prompt(sequence, first, hidden.narrow(0, row, work.count));
    row += wants_prompt ? work.count : adds;
    if (adds) {
      next.push_back(&sequence);
      last_rows.push_back(row - 1);
    } else if (sequence.remaining() == 0) {
      end(sequence.id, Finish::length);
    }
  }
  choose_tokens(next,
                std::ssize(next) == hidden.size(0)
                    ? hidden
                    : hidden.index_select(0, at::tensor(last_rows, at::kLong).to(hidden.device())));
  ++done.steps;
  if (options.observer) options.observer->end_step(std::ssize(works), batch.size());
}

void Engine::State::publish() {
  done.queued = scheduler.waiting();
  done.running = scheduler.running();
  done.pages_used = pool.used();
  done.preempted = scheduler.preempted();
  const std::lock_guard lock(mutex);
  figures = done;
}

int64_t cache_bytes(const model::Model& model, int64_t sequences, int64_t tokens,
                    int64_t page_tokens) {
  const int64_t page =
      page_tokens * model::KvCache::bytes_per_token(model.config, c10::elementSize(model.dtype));
  return sequences * ((tokens + page_tokens - 1) / page_tokens) * page;
}

Engine::Engine(const model::Model& model, EngineOptions options) {
  util::require(options.max_sequences > 0, "--max-sequences", options.max_sequences,
                "a positive number");
  util::require(options.max_batch_tokens >= options.max_sequences, "--max-batch-tokens",
                options.max_batch_tokens,
                util::concat("at least a token for each of ", options.max_sequences, " sequences"));
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
  state_->news.submitted.push_back({id, std::move(request)});
  state_->owners[id] = {std::move(listener), Clock::now()};
  state_->arrived.notify_one();
  return id;
}

void Engine::cancel(Id id) {
  const std::lock_guard lock(state_->mutex);
  state_->news.cancelled.push_back(id);
  state_->arrived.notify_one();
}

bool Engine::step() {
  try {
    if (!state_->closed) {
      auto [own, of] = state_->own_news();
      state_->add(shared(state_->options.group, std::move(own)), std::move(of));
    }
    if (state_->closed) {
      state_->end_all(Finish::cancelled);
      return false;
    }
    const std::vector<Work> works = state_->scheduler.next();
    if (!works.empty()) state_->run(works);
    state_->publish();
    return !works.empty();
  } catch (const std::exception& error) {
    state_->end_all(Finish::aborted, util::one_line(error));
    throw;
  }
}

bool Engine::wait() {
  std::unique_lock lock(state_->mutex);
  const auto there = [&] { return state_->woken || !state_->news.empty(); };
  if (state_->scheduler.idle()) {
    if (state_->options.group.size() > 1)
      state_->arrived.wait_for(lock, kHeartbeat, there);
    else
      state_->arrived.wait(lock, there);
  }
  return !std::exchange(state_->woken, false);
}

void Engine::close() {
  const std::lock_guard lock(state_->mutex);
  state_->news.closed = true;
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
  const int64_t room = state_->pool.pages() * state_->pool.page_tokens();
  const int64_t positions = state_->model.config.max_positions;
  return positions > 0 ? std::min(room, positions) : room;
}

EngineFigures Engine::figures() const {
  const std::lock_guard lock(state_->mutex);
  EngineFigures found = state_->figures;
  found.queued += std::ssize(state_->news.submitted);
  return found;
}

}  // namespace farskip::engine
