#include "measure/spans.h"

#include <algorithm>
#include <numeric>

#include "util/error.h"

namespace farskip::measure {

int64_t since_start(const Timeline& timeline, comm::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time - timeline.start).count();
}

std::string describe(const schedule::PartSpan& part) {
  return util::concat(part.layer < 0 ? "" : util::concat("layer ", part.layer, " "),
                      schedule::to_string(part.part), part.backward ? ", backward" : "");
}

std::vector<Inset> insets(const Timeline& timeline, int64_t least_fill) {
  std::vector<int64_t> borders;
  for (const auto& part : timeline.parts) {
    borders.push_back(since_start(timeline, part.begin));
    borders.push_back(since_start(timeline, part.end));
  }
  std::sort(borders.begin(), borders.end());

  std::vector<Inset> taken;  // in order of time, apart from one another
  const auto take = [&](Inset inset) {
    auto after = std::partition_point(taken.begin(), taken.end(),
                                      [&](const Inset& t) { return t.end <= inset.begin; });
    const int64_t end = inset.end;
    while (inset.begin < end) {
      const bool blocked = after != taken.end() && after->begin < end;
      const auto border = std::upper_bound(borders.begin(), borders.end(), inset.begin);
      inset.end = std::min(blocked ? after->begin : end, border == borders.end() ? end : *border);
      if (inset.begin < inset.end) after = std::next(taken.insert(after, inset));
      inset.begin = inset.end;
      if (after != taken.end() && after->begin <= inset.begin) inset.begin = (after++)->end;
    }
  };
  for (const auto kind : {Inset::Kind::wait, Inset::Kind::fill})
    for (size_t i = 0; i < timeline.messages.size(); ++i) {
      const comm::Message& m = timeline.messages[i];
      const bool wait = kind == Inset::Kind::wait;
      const int64_t begin = since_start(timeline, wait ? m.wait_begin : m.asked);
      const int64_t end = since_start(timeline, wait ? m.wait_end : m.wait_begin);
      if (wait || end - begin > least_fill) take({kind, i, begin, end});
    }
  return taken;
}

std::vector<std::pair<comm::Clock::time_point, comm::Clock::time_point>> own_time(
    comm::Clock::time_point begin, comm::Clock::time_point end, int64_t own,
    const std::vector<model::Turns::Turn>& turns) {
  std::vector<std::pair<comm::Clock::time_point, comm::Clock::time_point>> found;
  for (const model::Turns::Turn& turn : turns) {  // in order of time
    if (turn.strand == own || turn.end <= begin) continue;
    if (turn.begin >= end) break;
    if (turn.begin > begin) found.emplace_back(begin, turn.begin);
    begin = turn.end;
  }
  if (begin < end) found.emplace_back(begin, end);
  return found;
}

std::vector<size_t> tracks(const Timeline& timeline) {
  const auto& messages = timeline.messages;
  std::vector<size_t> order(messages.size()), track(messages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return messages[a].launched < messages[b].launched; });
  std::vector<comm::Clock::time_point> free;  // from when on, of every track
  for (const size_t i : order) {
    const auto found = std::find_if(free.begin(), free.end(),
                                    [&](auto since) { return since <= messages[i].launched; });
    track[i] = static_cast<size_t>(found - free.begin());
    if (found == free.end()) free.emplace_back();
    free[track[i]] = std::max(messages[i].launched, messages[i].arrived);
  }
  return track;
}

}  // namespace farskip::measure
