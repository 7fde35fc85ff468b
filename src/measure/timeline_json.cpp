#include "measure/timeline_json.h"

#include "io/json_file.h"
#include "measure/spans.h"

namespace farskip::measure {
namespace {

using comm::Clock, comm::MessageName, schedule::Part;

Clock::time_point time(const io::Fields& fields, const char* key) {
  return Clock::time_point(std::chrono::nanoseconds(fields.integer(key)));
}

Part part(const io::Fields& fields) {
  const std::string name = fields.string("part");
  for (int i = 0; i <= static_cast<int>(Part::optimizer); ++i)
    if (name == to_string(static_cast<Part>(i))) return static_cast<Part>(i);
  fields.refuse("part", "the name of a part");
}

MessageName::Part message_part(const io::Fields& fields) {
  const std::string name = fields.string("part");
  for (int i = 0; i <= static_cast<int>(MessageName::Part::weights); ++i)
    if (name == comm::to_string(static_cast<MessageName::Part>(i)))
      return static_cast<MessageName::Part>(i);
  fields.refuse("part", "the name of a message");
}

/// Calls read(fields) for each object of the list.
template <class Read>
void each(const io::Fields& fields, const char* key, const Read& read) {
  if (!fields.has(key) || !fields.json().at(key).is_array()) fields.refuse(key, "a list");
  for (const io::Json& entry : fields.json().at(key))
    read(io::Fields(entry, fields.label() + ": " + key));
}

}  // namespace

std::string to_json(const Timeline& timeline) {
  const auto ns = [&](Clock::time_point at) { return since_start(timeline, at); };
  io::Json parts = io::Json::array(), messages = io::Json::array();
  for (const auto& p : timeline.parts)
    parts.push_back({{"part", to_string(p.part)},
                     {"layer", p.layer},
                     {"backward", p.backward},
                     {"begin", ns(p.begin)},
                     {"end", ns(p.end)}});
  for (const auto& m : timeline.messages)
    messages.push_back({{"part", comm::to_string(m.name.part)},
                        {"layer", m.name.layer},
                        {"backward", m.name.backward},
                        {"chunk", m.name.chunk},
                        {"bytes", m.bytes},
                        {"launched", ns(m.launched)},
                        {"arrived", ns(m.arrived)},
                        {"asked", ns(m.asked)},
                        {"wait_begin", ns(m.wait_begin)},
                        {"wait_end", ns(m.wait_end)}});
  return io::Json{
      {"rank", timeline.rank}, {"end", ns(timeline.end)}, {"parts", parts}, {"messages", messages}}
      .dump();
}

Timeline timeline_from_json(const std::string& text) {
  const io::Fields fields(io::parse_json(text, "timeline"), "timeline");
  Timeline timeline{.rank = fields.integer("rank", 0), .end = time(fields, "end")};
  each(fields, "parts", [&](const io::Fields& f) {
    timeline.parts.push_back(
        {part(f), f.integer("layer", -1), f.boolean("backward"), time(f, "begin"), time(f, "end")});
  });
  each(fields, "messages", [&](const io::Fields& f) {
    timeline.messages.push_back(
        {{f.integer("layer"), message_part(f), f.boolean("backward"), f.integer("chunk", -1)},
         f.integer("bytes", 0),
         time(f, "launched"),
         time(f, "arrived"),
         time(f, "asked"),
         time(f, "wait_begin"),
         time(f, "wait_end")});
  });
  return timeline;
}

}  // namespace farskip::measure
