#include "engine/scheduler.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::engine {

Sequence::Sequence(uint64_t id, Request request)
    : id(id),
      request(std::move(request)),
      sampler(this->request.sampling, this->request.prompt),
      tokens(this->request.prompt) {}

void Scheduler::preempt_last() {
  std::unique_ptr<Sequence> last = std::move(running_.back());
  running_.pop_back();
  pool_.release(last->pages);
  last->computed = 0;
  waiting_.push_front(std::move(last));
  ++preempted_;
}

bool Scheduler::make_room(Sequence& sequence, int64_t count) {
  const int64_t needed = pool_.pages_for(sequence.computed + count) - std::ssize(sequence.pages);
  while (needed > 0 && !pool_.take(sequence.pages, needed)) {
    const bool itself = running_.back().get() == &sequence;
    if (itself && running_.size() == 1)
      throw Error(util::concat("KV cache: found ", pool_.pages(),
                               " pages, too few for a sequence of ", sequence.tokens.size(),
                               " tokens"));
    preempt_last();
    if (itself) return false;
  }
  return true;
}

void Scheduler::admit(int64_t left, std::vector<Work>& works) {
  while (left > 0 && !waiting_.empty() && running() < options_.max_sequences) {
    Sequence& sequence = *waiting_.front();
    if (!sequence.wants_prompt()) sequence.pages = pool_.share(sequence.tokens);
    const int64_t shared = std::ssize(sequence.pages);
    if (!pool_.take(sequence.pages, pool_.pages_for(std::ssize(sequence.tokens)) - shared)) {
      pool_.release(sequence.pages);
      return;
    }
    sequence.computed = shared * pool_.page_tokens();
    if (!sequence.begun) sequence.reused = sequence.computed;
    running_.push_back(take(waiting_, waiting_.begin()));
    works.push_back({&sequence, std::min(sequence.remaining(), left)});
    left -= works.back().count;
  }
}

std::vector<Work> Scheduler::next() {
  // Who is given up on the way is the last: none of those that have been looked at.
  std::vector<Work> works;
  std::vector<Sequence*> prompts;
  int64_t left = options_.max_batch_tokens;
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.remaining() > 1) {
      prompts.push_back(&sequence);
    } else if (left > 0 && make_room(sequence, 1)) {
      works.push_back({&sequence, 1});
      --left;
    }
  }
  for (Sequence* sequence : prompts) {  // their pages are there since they were let in
    if (left == 0) break;
    works.push_back({sequence, std::min(sequence->remaining(), left)});
    left -= works.back().count;
  }
  admit(left, works);
  return works;
}

void Scheduler::done(const Work& work) {
  Sequence& sequence = *work.sequence;
  const int64_t full = sequence.computed / pool_.page_tokens();
  sequence.computed += work.count;
  sequence.begun = true;
  pool_.register_full(sequence.pages, std::span(sequence.tokens).first(sequence.computed), full);
}

std::unique_ptr<Sequence> Scheduler::take(Sequences& from, Sequences::iterator at) {
  std::unique_ptr<Sequence> sequence = std::move(*at);
  from.erase(at);
  return sequence;
}

std::unique_ptr<Sequence> Scheduler::remove(uint64_t id) {
  for (Sequences* from : {&running_, &waiting_})
    for (auto at = from->begin(); at != from->end(); ++at)
      if ((*at)->id == id) {
        std::unique_ptr<Sequence> sequence = take(*from, at);
        pool_.release(sequence->pages);
        return sequence;
      }
  return nullptr;
}

std::optional<uint64_t> Scheduler::any() const {
  for (const Sequences* from : {&running_, &waiting_})
    if (!from->empty()) return from->front()->id;
  return std::nullopt;
}

}  // namespace farskip::engine
