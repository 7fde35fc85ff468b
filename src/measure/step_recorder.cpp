#include "measure/step_recorder.h"

#include <set>
#include <utility>

namespace farskip::measure {
namespace {

using comm::Clock;

constexpr auto kAsked = std::chrono::seconds(10);

}  // namespace

StepRecorder::StepRecorder(model::ExpertRanks ranks) : ranks_(std::move(ranks)) {
  totals_.ranks = ranks_.reducer ? ranks_.reducer->group().size() : ranks_.size();
  record(&messages_);
}

StepRecorder::~StepRecorder() {
  record(nullptr);
}

void StepRecorder::record(comm::MessageLog* log) const {
  if (ranks_.courier) ranks_.courier->record(log);
  if (ranks_.reducer) ranks_.reducer->record(log);
}

schedule::PartLog* StepRecorder::begin_step() {
  messages_.messages.clear();
  parts_.spans.clear();
  start_ = Clock::now();
  const std::lock_guard lock(mutex_);
  drawn_ = asked_ != Clock::time_point() && start_ - asked_ < kAsked;
  return drawn_ ? &parts_ : nullptr;
}

void StepRecorder::end_step(int64_t sequences, int64_t tokens) {
  parts_.leave();
  const auto end = Clock::now();
  StepTotals own;
  own.all = comm::measure(messages_, [](const comm::Message&) { return true; });
  std::set<comm::MessageName::Part> kinds;
  for (const comm::Message& message : messages_.messages) kinds.insert(message.name.part);
  for (const auto kind : kinds)
    own.by_message[kind] = comm::measure(
        messages_, [&](const comm::Message& message) { return message.name.part == kind; });

  const std::lock_guard lock(mutex_);
  ++steps_;
  totals_.seconds += std::chrono::duration<double>(end - start_).count();
  totals_.all += own.all;
  for (const auto& [kind, traffic] : own.by_message) totals_.by_message[kind] += traffic;
  if (!drawn_) return;
  const int64_t rank = ranks_.reducer ? ranks_.reducer->group().rank() : ranks_.rank();
  last_[tokens > sequences ? Kind::prefill : Kind::decode] = {
      {rank, start_, end, parts_.spans, messages_.messages}, steps_, sequences, tokens};
}

StepTotals StepRecorder::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

std::optional<RecordedStep> StepRecorder::last(Kind kind) {
  const std::lock_guard lock(mutex_);
  asked_ = Clock::now();
  const auto found = last_.find(kind);
  return found == last_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace farskip::measure
