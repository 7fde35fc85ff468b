#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "measure/chrome_trace.h"
#include "measure/spans.h"
#include "measure/timeline_json.h"
#include "measure/timeline_page.h"
#include "util/error.h"

namespace farskip::measure {
namespace {

using comm::Clock, comm::MessageName, schedule::Part, testing::HasSubstr;
using Json = nlohmann::json;

constexpr auto kDispatch = MessageName::Part::dispatch, kCombine = MessageName::Part::combine;

/// Microseconds become times of a clock that reads `start` when the step begins.
struct Times {
  int64_t start;
  Clock::time_point operator()(double us) const {
    return Clock::time_point(std::chrono::nanoseconds(start + std::llround(us * 1e3)));
  }
};

/// Two messages that overlap, one fill, one wait across the border of two parts (which can't
/// happen, yet must not break a track), and one message that was there before it was asked for.
Timeline example(int64_t rank, int64_t start) {
  const Times at{start};
  Timeline t{.rank = rank, .start = at(0), .end = at(1000)};
  t.parts = {{Part::attention_prepare, 3, false, at(0), at(100)},
             {Part::experts, 3, false, at(100), at(400)},
             {Part::head, -1, false, at(400), at(500)},
             {Part::attention_prepare, 3, true, at(500.25), at(1000)}};
  t.messages = {
      {{3, kDispatch}, 2000, at(50), at(150), at(120), at(120), at(150)},
      {{3, kCombine, true}, 1000, at(60), at(350.5), at(250), at(300), at(350.5)},
      {{3, kCombine, false, 1}, 4000, at(360), at(380), at(390), at(390), at(410)},
      {{2, kDispatch, true}, 0, at(600), at(700), at(800), at(801), at(801)},
  };
  return t;
}

int64_t ns(const Json& us) {
  return std::llround(us.get<double>() * 1e3);
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(TimelineJson, ComesBackEqualAtTheClocksZero) {
  const Timeline back = timeline_from_json(to_json(example(5, 123456789)));
  const Timeline expected = example(5, 0);
  EXPECT_EQ(back.rank, 5);
  EXPECT_EQ(back.start, Clock::time_point());
  EXPECT_EQ(back.end, expected.end);
  ASSERT_EQ(back.parts.size(), expected.parts.size());
  for (size_t i = 0; i < expected.parts.size(); ++i) {
    const auto &a = back.parts[i], &b = expected.parts[i];
    EXPECT_EQ(std::tie(a.part, a.layer, a.backward, a.begin, a.end),
              std::tie(b.part, b.layer, b.backward, b.begin, b.end));
  }
  ASSERT_EQ(back.messages.size(), expected.messages.size());
  for (size_t i = 0; i < expected.messages.size(); ++i) {
    const auto &a = back.messages[i], &b = expected.messages[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(std::tie(a.bytes, a.launched, a.arrived, a.asked, a.wait_begin, a.wait_end),
              std::tie(b.bytes, b.launched, b.arrived, b.asked, b.wait_begin, b.wait_end));
  }
  for (int part = 0; part <= static_cast<int>(Part::optimizer); ++part) {
    const Timeline one{.parts = {{static_cast<Part>(part)}}};
    EXPECT_EQ(timeline_from_json(to_json(one)).parts.at(0).part, static_cast<Part>(part));
  }
}

TEST(TimelineJson, RefusesWhatIsNoTimeline) {
  for (const char* text : {"", "[]", "{\"rank\":0,\"end\":1}",
                           "{\"rank\":0,\"end\":1,\"messages\":[],\"parts\":[{\"part\":\"tea\"}]}"})
    EXPECT_THROW(timeline_from_json(text), InputError) << text;
}

TEST(Spans, FillsAndWaitsAreCutApart) {
  const Timeline t = example(0, 1000);
  std::vector<std::tuple<Inset::Kind, size_t, int64_t, int64_t>> found;
  for (const Inset& inset : insets(t))
    found.emplace_back(inset.kind, inset.message, inset.begin, inset.end);
  constexpr auto kWait = Inset::Kind::wait, kFill = Inset::Kind::fill;
  EXPECT_THAT(found,
              testing::ElementsAre(std::tuple(kWait, 0u, 120000, 150000),  // at once: no fill
                                   std::tuple(kFill, 1u, 250000, 300000),
                                   std::tuple(kWait, 1u, 300000, 350500),
                                   std::tuple(kWait, 2u, 390000, 400000),  // cut by the border
                                   std::tuple(kWait, 2u, 400000, 410000)));
  EXPECT_THAT(tracks(t), testing::ElementsAre(0, 1, 0, 0));

  // A wait amid a fill leaves the fill before and behind it.
  Timeline amid{.messages = {{.name = {1, kDispatch}}, {.name = {2, kDispatch}}}};
  const Times at{0};
  amid.messages[0].asked = at(10);
  amid.messages[0].wait_begin = amid.messages[0].wait_end = at(90);
  amid.messages[1].asked = amid.messages[1].wait_begin = at(40);
  amid.messages[1].wait_end = at(60);
  found.clear();
  for (const Inset& inset : insets(amid))
    found.emplace_back(inset.kind, inset.message, inset.begin, inset.end);
  EXPECT_THAT(found, testing::ElementsAre(std::tuple(kFill, 0u, 10000, 40000),
                                          std::tuple(kWait, 1u, 40000, 60000),
                                          std::tuple(kFill, 0u, 60000, 90000)));
}

TEST(Spans, TurnsOfOtherStrandsAreCutOut) {
  const auto at = [](int64_t ms) { return comm::Clock::time_point(std::chrono::milliseconds(ms)); };
  const std::vector<model::Turns::Turn> turns = {
      {0, at(10), at(20)}, {1, at(20), at(30)}, {0, at(30), at(40)}, {2, at(40), at(60)}};
  using Times = std::vector<std::pair<comm::Clock::time_point, comm::Clock::time_point>>;
  struct Case {
    int64_t begin, end, own;
    Times expected;
  };
  for (const Case& c : {Case{0, 5, 1, {{at(0), at(5)}}},
                        {12, 38, 0, {{at(12), at(20)}, {at(30), at(38)}}},
                        {12, 38, 1, {{at(20), at(30)}}},
                        {35, 70, 1, {{at(60), at(70)}}},
                        {0, 70, 2, {{at(0), at(10)}, {at(40), at(70)}}},
                        {10, 20, 1, {}}})
    EXPECT_EQ(own_time(at(c.begin), at(c.end), c.own, turns), c.expected)
        << c.begin << " to " << c.end << " of " << c.own;
}

TEST(ChromeTrace, HoldsEveryRankWithSpansThatNestAndArrowsThatLand) {
  const std::vector<Timeline> ranks = {example(0, 1000), example(1, 99000)};
  const Json trace = Json::parse(chrome_trace(ranks, "a \"step\" \xff"));
  std::map<std::pair<int, int>, std::vector<Json>> on_track;
  std::map<int, std::map<std::string, Json>> flows;
  std::multiset<std::string> names;
  std::map<int, std::string> processes;
  for (const Json& event : trace.at("traceEvents")) {
    const std::string phase = event.at("ph");
    if (phase == "M" && event.at("name") == "process_name")
      processes[event.at("pid")] = event.at("args").at("name");
    if (phase == "M") continue;
    if (phase != "X") {
      EXPECT_TRUE(flows[event.at("id")].emplace(phase, event).second);
      continue;
    }
    names.insert(event.at("name"));
    on_track[{event.at("pid"), event.at("tid")}].push_back(event);
  }
  EXPECT_EQ(processes, (std::map<int, std::string>{{0, "rank 0"}, {1, "rank 1"}}));
  EXPECT_EQ(on_track.size(), 6u);
  for (const char* name :
       {"layer 3 attention a", "layer 3 attention a, backward", "head", "layer 3 dispatch",
        "layer 3 combine gradient", "layer 3 combine, chunk 1", "weight gradients, updates",
        "wait: layer 3 dispatch", "wait: layer 3 combine gradient"})
    EXPECT_EQ(names.count(name), 2u) << name;
  EXPECT_EQ(names.size(), 2u * (4 + 5 + 4));

  for (const auto& [track, spans] : on_track)
    for (const Json& a : spans)
      for (const Json& b : spans) {
        const int64_t a0 = ns(a["ts"]), a1 = a0 + ns(a["dur"]), b0 = ns(b["ts"]),
                      b1 = b0 + ns(b["dur"]);
        if (a == b || a1 <= b0 || b1 <= a0) continue;
        const bool nested = (a0 <= b0 && b1 <= a1) || (b0 <= a0 && a1 <= b1);
        EXPECT_TRUE(nested && track.second == 0) << a << b;
      }

  ASSERT_EQ(flows.size(), 8u);
  for (const auto& [id, steps] : flows) {
    ASSERT_EQ(steps.size(), 3u) << id;
    const Json &s = steps.at("s"), &t = steps.at("t"), &f = steps.at("f");
    const Timeline& rank = ranks[s.at("pid").get<size_t>()];
    const comm::Message& m = rank.messages[(id - 1) % 4];
    EXPECT_EQ(ns(s["ts"]), since_start(rank, m.launched));
    EXPECT_EQ(ns(f["ts"]), since_start(rank, m.wait_begin));
    EXPECT_EQ(s["tid"], 0);
    EXPECT_EQ(f["tid"], 0);
    EXPECT_EQ(f["bp"], "e");
    bool lands = false;  // on the message itself
    for (const Json& span : on_track[{t["pid"], t["tid"]}])
      lands |= span["ts"] == t["ts"] && span["name"] == m.name.describe();
    EXPECT_TRUE(lands) << id;
  }

  const Json& args = on_track[{1, 1}][0].at("args");
  EXPECT_EQ(args.at("bytes"), 2000);
  EXPECT_DOUBLE_EQ(args.at("Gbit/s"), 0.16);  // 16,000 bits in 100 us
  EXPECT_DOUBLE_EQ(args.at("hidden"), 0.7);   // 30 of 100 us exposed
}

TEST(TimelinePage, ShowsTheFiguresAndEverySpan) {
  const std::vector<Timeline> ranks = {example(0, 1000), example(1, 99000)};
  const std::string page = timeline_page(ranks, "A <step>", {"link & \"host\""});
  // Forward: 100 + 20 us, 30 of them exposed. Backward: 290.5 + 100 us, 30 + 50.5 exposed. In all:
  // 300.5 + 20 + 100 us, 30 + 50.5 exposed, as messages in flight together count once.
  for (const char* text :
       {"<title>A &lt;step&gt;</title>", "<p>link &amp; &quot;host&quot;</p>", "<b>1.00 ms</b>",
        "2 ranks, 8 messages, 0.01 MB", "<b>80.9 %</b>", "forward 75.0 % \u00b7 backward 79.4 %",
        "<b>420.5 \u00b5s</b>", "forward 120.0 \u00b5s \u00b7 backward 390.5 \u00b5s",
        "<b>80.5 \u00b5s</b>", "forward 30.0 \u00b5s \u00b7 backward 80.5 \u00b5s", ">rank 1<",
        "layer 3 attention a, backward\n", "wait: layer 3 combine gradient\n",
        "weight gradients until layer 3 combine gradient\n", "prefers-color-scheme: dark"})
    EXPECT_NE(page.find(text), page.npos) << text;
  for (const char* tag : {"svg", "g", "text", "div", "style", "script", "span", "p", "kbd", "html"})
    EXPECT_EQ(count(page, util::concat("<", tag, ">")) + count(page, util::concat("<", tag, " ")),
              count(page, util::concat("</", tag, ">")))
        << tag;
  EXPECT_EQ(count(page, "class=\"part "), 2 * 4);
  EXPECT_EQ(count(page, "<rect class=\"wait\" x="), 2 * 4);
  EXPECT_EQ(count(page, "<rect class=\"fill\" x="), 2 * 1);
  EXPECT_EQ(count(page, "http"), 1) << "only the name space in the script";
  EXPECT_EQ(count(page, "src="), 0);
}

TEST(TimelinePage, StandsWithoutMessagesToo) {
  EXPECT_THAT(timeline_page({}, "nothing"), HasSubstr("</html>"));
  const Timeline bare{.end = Clock::time_point(std::chrono::seconds(2))};
  const std::string page = timeline_page(std::vector{bare}, "bare");
  EXPECT_THAT(page, HasSubstr("<b>2.00 s</b>"));
  EXPECT_THAT(page, HasSubstr("<b>\u2013</b>"));
}

}  // namespace
}  // namespace farskip::measure
