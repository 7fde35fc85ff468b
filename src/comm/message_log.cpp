#include "comm/message_log.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::comm {
namespace {

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::string MessageName::describe() const {
  if (part == Part::gradients) return util::concat("gradient reduction, bucket ", layer);
  if (part == Part::weights) return util::concat("updated weights, bucket ", layer);
  std::string text =
      util::concat("layer ", layer, part == Part::dispatch ? " dispatch" : " combine",
                   backward ? " gradient" : "");
  if (chunk >= 0) text += util::concat(", chunk ", chunk);
  return text;
}

at::Tensor wait(Pending pending, Message& message) {
  message.asked = message.wait_begin = Clock::now();
  const std::unique_ptr<Work> work = pending.release();
  const at::Tensor output = work ? work->wait() : pending.wait();
  message.arrived = work ? work->arrival() : message.launched;
  message.wait_end = Clock::now();
  return output;
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
