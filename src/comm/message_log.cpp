#include "comm/message_log.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::comm {
namespace {

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::string to_string(MessageName::Part part) {
  using enum MessageName::Part;
  switch (part) {
    case dispatch:
      return "dispatch";
    case combine:
      return "combine";
    case counts:
      return "token counts";
    case gather:
      return "all-gather";
    case scatter:
      return "reduce-scatter";
    case embedding:
      return "embedding";
    case attention:
      return "attention";
    case merged:
      return "attention and MLP";
    case shared:
      return "shared experts";
    case mlp:
      return "MLP";
    case routed:
      return "routed experts";
    case keys:
      return "keys";
    case logits:
      return "logits";
    case gradients:
      return "gradient reduction";
    case weights:
      return "updated weights";
  }
  return "";
}

std::string MessageName::describe() const {
  if (part == Part::gradients || part == Part::weights)
    return util::concat(to_string(part), ", bucket ", layer);
  std::string text = to_string(part) + (backward ? " gradient" : "");
  if (part != Part::embedding && part != Part::logits && part != Part::counts)
    text = util::concat("layer ", layer, " ", text);
  if (chunk >= 0) text += util::concat(", chunk ", chunk);
  return text;
}

Traffic& Traffic::operator+=(const Traffic& other) {
  messages += other.messages;
  bytes += other.bytes;
  communication += other.communication;
  exposed += other.exposed;
  waiting += other.waiting;
  return *this;
}

Traffic measure(const MessageLog& log, const std::function<bool(const Message&)>& counts) {
  Traffic traffic;
  std::vector<std::pair<Clock::time_point, Clock::time_point>> flights;
  for (const Message& message : log.messages) {
    if (!counts(message)) continue;
    ++traffic.messages;
    traffic.bytes += message.bytes;
    traffic.waiting += seconds(message.wait_end - message.wait_begin);
    flights.emplace_back(message.launched, message.arrived);
  }
  std::sort(flights.begin(), flights.end());
  auto covered = Clock::time_point::min();  // messages in flight together count once
  // One thread's waits follow one another, and so do the times covered.
  auto first = log.messages.begin();
  for (auto [begin, end] : flights) {
    begin = std::max(begin, covered);
    if (begin >= end) continue;
    covered = end;
    traffic.communication += seconds(end - begin);
    while (first != log.messages.end() && first->wait_end <= begin) ++first;
    for (auto waited = first; waited != log.messages.end() && waited->wait_begin < end; ++waited) {
      const auto from = std::max(begin, waited->wait_begin), to = std::min(end, waited->wait_end);
      if (from < to) traffic.exposed += seconds(to - from);
    }
  }
  return traffic;
}

}  // namespace farskip::comm
