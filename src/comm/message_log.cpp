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
  std::string text = util::concat("layer ", layer, part == Part::dispatch ? " dispatch" : " combine",
                                  backward ? " gradient" : "");
  if (chunk >= 0) text += util::concat(", chunk ", chunk);
  return text;
}

Traffic measure(const MessageLog& log, const std::function<bool(const Message&)>& counts) {
  Traffic traffic;
  for (const Message& message : log.messages) {
    if (!counts(message)) continue;
    ++traffic.messages;
    traffic.bytes += message.bytes;
    traffic.communication += seconds(message.arrived - message.launched);
    traffic.waiting += seconds(message.wait_end - message.wait_begin);
    // The waits of one thread don't overlap, so their shares of this message's time add up.
    for (const Message& waited : log.messages) {
      const auto begin = std::max(message.launched, waited.wait_begin);
      const auto end = std::min(message.arrived, waited.wait_end);
      if (begin < end) traffic.exposed += seconds(end - begin);
    }
  }
  return traffic;
}

}  // namespace farskip::comm
