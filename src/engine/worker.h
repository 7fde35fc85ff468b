// The sequences of one rank.
#pragma once
#include "engine/engine_options.h"
#include "engine/scheduler.h"
#include "engine/step_messages.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace farskip::engine {

/// Schedules this rank's sequences, computes them and chooses their tokens. It knows nobody that
/// they belong to, and hears of other ranks only in the forward pass. Used by one thread.
class Worker {
 public:
  /// `model` and `options` must outlive it. InputError for a cache without room for a page.
  Worker(const model::Model& model, const EngineOptions& options);

  void add(uint64_t id, Request request);
  /// Nothing if it is not there.
  void drop(uint64_t id) { scheduler_.remove(id); }
  void drop_all();

  /// One forward pass over what is running, and what came of it. Where ranks share the experts and
  /// each has sequences of its own, all of them make it, also those that have none.
  Report step();
  /// Without progress.
  Report report() const;

  bool idle() const { return scheduler_.idle(); }
  /// Tokens that the cache holds.
  int64_t room() const { return pool_.pages() * pool_.page_tokens(); }

 private:
  /// -> of every work what came of it
  std::vector<Progress> run(const std::vector<Work>& works);
  void read_prompt(Sequence& sequence, int64_t first, const at::Tensor& hidden, Progress& progress);
  void choose_tokens(const std::vector<std::pair<Sequence*, Progress*>>& sequences,
                     const at::Tensor& hidden);
  void add_token(Sequence& sequence, int64_t id, const at::Tensor& logits, Progress& progress);
  void end(const Sequence& sequence, Finish finish, Progress& progress);

  const model::Model& model_;
  const EngineOptions& options_;
  PagePool pool_;
  model::KvCache cache_;
  Scheduler scheduler_;
};

}  // namespace farskip::engine
