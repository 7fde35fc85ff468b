#include "measure/chrome_trace.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "measure/spans.h"
#include "util/error.h"

namespace farskip::measure {
namespace {

using Json = nlohmann::ordered_json;

/// The format's microseconds; nanoseconds stand behind the point.
double microseconds(int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e3;
}

double rounded(double value, double parts) {
  return std::round(value * parts) / parts;
}

class Writer {
 public:
  void write(const Timeline& timeline) {
    rank_ = timeline.rank;
    const std::vector<size_t> track = tracks(timeline);
    const size_t count = track.empty() ? 0 : *std::max_element(track.begin(), track.end()) + 1;
    name("process", 0, util::concat("rank ", rank_), rank_);
    name("thread", 0, "compute", 0);
    for (size_t i = 1; i <= count; ++i)
      name("thread", i, i == 1 ? "communication" : util::concat("communication ", i), i);
    parts(timeline);
    messages(timeline, track);
  }
  Json take() { return std::move(events_); }

 private:
  void name(const std::string& what, size_t track, const std::string& name, int64_t place) {
    const Json where = {{"ph", "M"}, {"pid", rank_}, {"tid", track}};
    for (const auto& [key, args] : {std::pair<std::string, Json>{"_name", {{"name", name}}},
                                    {"_sort_index", {{"sort_index", place}}}}) {
      events_.push_back(where);
      events_.back()["name"] = what + key;
      events_.back()["args"] = args;
    }
  }
  Json& span(const std::string& name, const char* kind, size_t track, int64_t begin, int64_t end) {
    events_.push_back({{"ph", "X"},
                       {"name", name},
                       {"cat", kind},
                       {"pid", rank_},
                       {"tid", track},
                       {"ts", microseconds(begin)},
                       {"dur", microseconds(std::max<int64_t>(0, end - begin))}});
    return events_.back();
  }
  /// A flow's step binds to the innermost span that is open on the track at that time; viewers keep
  /// the order of events of one time, so spans come before the flows that touch them.
  void flow(const char* phase, size_t track, int64_t at) {
    events_.push_back({{"ph", phase},
                       {"name", "message"},
                       {"cat", "flow"},
                       {"id", flows_},
                       {"pid", rank_},
                       {"tid", track},
                       {"ts", microseconds(at)}});
    if (*phase == 'f') events_.back()["bp"] = "e";
  }

  void parts(const Timeline& timeline) {
    for (const auto& part : timeline.parts)
      span(describe(part), "part", 0, since_start(timeline, part.begin),
           since_start(timeline, part.end));
    for (const Inset& inset : insets(timeline)) {
      const std::string message = timeline.messages[inset.message].name.describe();
      if (inset.kind == Inset::Kind::wait)
        span("wait: " + message, "wait", 0, inset.begin, inset.end)["cname"] = "terrible";  // red
      else
        span("weight gradients, updates", "fill", 0, inset.begin,
             inset.end)["args"] = {{"until", message}};
    }
  }

  void messages(const Timeline& timeline, const std::vector<size_t>& track) {
    const comm::MessageLog log{timeline.messages};
    for (size_t i = 0; i < log.messages.size(); ++i) {
      const comm::Message& message = log.messages[i];
      const int64_t launched = since_start(timeline, message.launched),
                    arrived = since_start(timeline, message.arrived);
      const auto traffic =
          comm::measure(log, [&](const comm::Message& other) { return &other == &message; });
      Json args = {{"bytes", message.bytes}};
      if (arrived > launched)  // bits a nanosecond
        args["Gbit/s"] = rounded(
            static_cast<double>(8 * message.bytes) / static_cast<double>(arrived - launched), 1e3);
      args["hidden"] = rounded(traffic.hidden(), 1e4);
      span(message.name.describe(), "message", track[i] + 1, launched, arrived)["args"] = args;
    }
    for (size_t i = 0; i < log.messages.size(); ++i) {
      const int64_t launched = since_start(timeline, log.messages[i].launched);
      flow("s", 0, launched);
      flow("t", track[i] + 1, launched);
      flow("f", 0, since_start(timeline, log.messages[i].wait_begin));
      ++flows_;
    }
  }

  Json events_ = Json::array();
  int64_t rank_ = 0, flows_ = 1;  ///< ids go on from rank to rank
};

}  // namespace

std::string chrome_trace(std::span<const Timeline> ranks, const std::string& title) {
  Writer writer;
  for (const Timeline& timeline : ranks) writer.write(timeline);
  // Any bytes may stand in a title (a path, say).
  return Json{
      {"displayTimeUnit", "ms"}, {"otherData", {{"title", title}}}, {"traceEvents", writer.take()}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace farskip::measure
