#include "engine/ledger.h"

namespace farskip::engine {
namespace {

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

int64_t Ledger::open(Id id, const Request& request, std::shared_ptr<Listener> listener,
                     Clock::time_point submitted) {
  const Place place = placement_.take(request);
  open_[id] = {.listener = std::move(listener),
               .place = place,
               .prompt_tokens = std::ssize(request.prompt),
               .submitted = submitted};
  return place.rank;
}

bool Ledger::deliver(const Progress& progress, Clock::time_point stepped) {
  const auto found = open_.find(progress.id);
  if (found == open_.end()) return true;
  Entry& entry = found->second;
  if (progress.begun) {
    entry.begun = stepped;
    entry.reused_tokens = *progress.begun;
  }
  if (progress.prompt) entry.listener->on_prompt(*progress.prompt);
  bool goes_on = true;
  if (progress.token) {
    entry.last_token = Clock::now();
    if (++entry.new_tokens == 1) entry.first_token = entry.last_token;
    ++counts_.generated;
    goes_on = entry.listener->on_token(*progress.token);
  }
  if (progress.finish)
    end(progress.id, goes_on ? *progress.finish : Finish::stop, progress.error);
  else if (!goes_on)
    end(progress.id, Finish::stop);
  return goes_on || progress.finish;
}

Outcome Ledger::outcome(const Entry& entry, Finish finish, const std::string& error) {
  Outcome outcome{finish, error, entry.prompt_tokens, entry.reused_tokens, entry.new_tokens};
  const auto begun = entry.begun == Clock::time_point() ? Clock::now() : entry.begun;
  outcome.queued_ms = milliseconds(begun - entry.submitted);
  if (entry.new_tokens > 0) outcome.ttft_ms = milliseconds(entry.first_token - entry.submitted);
  if (entry.new_tokens > 1)
    outcome.tbt_ms = milliseconds(entry.last_token - entry.first_token) /
                     static_cast<double>(entry.new_tokens - 1);
  return outcome;
}

bool Ledger::end(Id id, Finish finish, const std::string& error) {
  const auto node = open_.extract(id);
  if (!node) return false;
  const Entry& entry = node.mapped();
  placement_.release(entry.place);
  if (entry.begun != Clock::time_point()) {
    counts_.prompt += entry.prompt_tokens;
    counts_.reused += entry.reused_tokens;
  }
  entry.listener->on_finish(outcome(entry, finish, error));
  return true;
}

void Ledger::end_all(Finish finish, const std::string& error) {
  while (!open_.empty()) end(open_.begin()->first, finish, error);
}

}  // namespace farskip::engine
