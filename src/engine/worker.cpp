#include "engine/worker.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "schedule/forward.h"
#include "schedule/head.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

/// Rows of logits that exist at once where a prompt's are asked for.
constexpr int64_t kLogitRows = 64;

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

}  // namespace

Worker::Worker(const model::Model& model, const EngineOptions& options)
    : model_(model),
      options_(options),
      pool_(page_count(model, options), options.page_tokens, options.reuse_prefixes),
      cache_(model.config, pool_.pages(), pool_.page_tokens(),
             at::TensorOptions(model.dtype).device(model.device)),
      scheduler_(pool_, {options.max_sequences, options.max_batch_tokens}) {}

void Worker::add(uint64_t id, Request request) {
  scheduler_.add(std::make_unique<Sequence>(id, std::move(request)));
}

void Worker::drop_all() {
  while (const auto id = scheduler_.any()) drop(*id);
}

void Worker::end(const Sequence& sequence, Finish finish, Progress& progress) {
  progress.finish = finish;
  drop(sequence.id);
}

/// The logits of the prompt's tokens whose predecessors are rows of `hidden`, the first of which is
/// that of position `first`.
void Worker::read_prompt(Sequence& sequence, int64_t first, const at::Tensor& hidden,
                         Progress& progress) {
  const auto& prompt = sequence.request.prompt;
  // Where the sequence was given up in between, some are known.
  int64_t at = std::max<int64_t>(first, std::ssize(sequence.prompt));
  const int64_t end = std::min(first + hidden.size(0), std::ssize(prompt) - 1);
  while (at < end) {
    const int64_t rows = std::min(kLogitRows, end - at);
    const at::Tensor logits =
        schedule::logits(model_, hidden.narrow(0, at - first, rows), options_.ranks);
    for (int64_t row = 0; row < rows; ++row, ++at)
      sequence.prompt.push_back(
          {prompt[at + 1], log_probabilities(logits[row], prompt[at + 1],
                                             sequence.request.log_probabilities.value_or(0))});
  }
  if (!sequence.wants_prompt()) progress.prompt = sequence.prompt;
}

void Worker::add_token(Sequence& sequence, int64_t id, const at::Tensor& logits,
                       Progress& progress) {
  const Request& request = sequence.request;
  const auto& stops = request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), id) != stops.end())
    return end(sequence, Finish::stop, progress);
  Token& token = progress.token.emplace();
  token.id = id;
  if (request.log_probabilities)
    token.log_probabilities = log_probabilities(logits, id, *request.log_probabilities);
  sequence.tokens.push_back(id);
  if (sequence.new_tokens() == request.max_new_tokens) end(sequence, Finish::length, progress);
}

/// hidden [sequences, hidden]: of each one's last token.
void Worker::choose_tokens(const std::vector<std::pair<Sequence*, Progress*>>& sequences,
                           const at::Tensor& hidden) {
  if (sequences.empty()) return;
  const bool plain = std::all_of(sequences.begin(), sequences.end(), [](const auto& one) {
    const Request& request = one.first->request;
    return is_plain_greedy(request.sampling) && !request.log_probabilities;
  });
  std::vector<int64_t> best;
  at::Tensor logits;
  if (plain)
    best = schedule::best_tokens(model_, hidden, options_.ranks);
  else
    logits = schedule::logits(model_, hidden, options_.ranks);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto& [sequence, progress] = sequences[i];
    const at::Tensor row = plain ? at::Tensor() : logits[static_cast<int64_t>(i)];
    const int64_t id = plain ? best[i] : sequence->sampler.sample(row);
    if (id >= 0) {
      add_token(*sequence, id, row, *progress);
    } else {  // one sequence ends, not all
      progress->error = "logits: found a value that is not finite, expected numbers";
      end(*sequence, Finish::failed, *progress);
    }
  }
}

std::vector<Progress> Worker::run(const std::vector<Work>& works) {
  const c10::InferenceMode inference;
  const model::Batch batch = batch_of(works, model_.device);
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
  schedule::PartLog* parts = options_.observer ? options_.observer->begin_step() : nullptr;
  schedule::ForwardOptions forward{.connectivity = options_.connectivity,
                                   .ranks = options_.ranks,
                                   .cache = &cache_,
                                   .parts = parts};
  if (std::ssize(rows) < batch.size()) forward.rows = at::tensor(rows, at::kLong).to(model_.device);
  const at::Tensor hidden = schedule::forward(model_, batch, forward);
  if (parts) parts->enter(schedule::Part::head, /*layer=*/-1);

  std::vector<Progress> progress(works.size());
  std::vector<std::pair<Sequence*, Progress*>> next;
  std::vector<int64_t> last_rows;
  row = 0;
  for (size_t i = 0; i < works.size(); ++i) {
    const Work& work = works[i];
    Sequence& sequence = *work.sequence;
    progress[i].id = sequence.id;
    if (!sequence.begun) progress[i].begun = sequence.reused;
    const int64_t first = sequence.computed;
    const bool adds = adds_token(work), wants_prompt = sequence.wants_prompt();
    scheduler_.done(work);
    if (wants_prompt) read_prompt(sequence, first, hidden.narrow(0, row, work.count), progress[i]);
    row += wants_prompt ? work.count : adds;
    if (adds) {
      next.emplace_back(&sequence, &progress[i]);
      last_rows.push_back(row - 1);
    } else if (sequence.remaining() == 0) {
      end(sequence, Finish::length, progress[i]);
    }
  }
  choose_tokens(next,
                std::ssize(next) == hidden.size(0)
                    ? hidden
                    : hidden.index_select(0, at::tensor(last_rows, at::kLong).to(hidden.device())));
  if (options_.observer) options_.observer->end_step(std::ssize(works), batch.size());
  return progress;
}

Report Worker::step() {
  const std::vector<Work> works = scheduler_.next();
  std::vector<Progress> progress;
  if (!works.empty() || options_.ranks.courier) progress = run(works);
  std::erase_if(progress, [](const Progress& one) { return one.empty(); });
  Report found = report();
  found.progress = std::move(progress);
  return found;
}

Report Worker::report() const {
  return {.idle = scheduler_.idle(),
          .running = scheduler_.running(),
          .pages = pool_.pages(),
          .pages_used = pool_.used(),
          .preempted = scheduler_.preempted(),
          .progress = {}};
}

}  // namespace farskip::engine
