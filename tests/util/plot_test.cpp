#include "util/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace farskip::util {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Plot, HoldsTitlesAxesLegendAndEveryFinitePoint) {
  Plot plot{.title = "Loss <of> a run", .x_label = "step", .y_label = "nats", .log_y = true};
  plot.series.push_back({"training",
                         {{0, 8}, {10, 4}, {20, std::numeric_limits<double>::quiet_NaN()}, {30, 1}},
                         true});
  plot.series.push_back({"validation", {{10, 5}, {30, 2}}, false});
  const std::string drawn = svg(plot);
  for (const char* part : {"<svg ", "Loss &lt;of&gt; a run", ">step<", ">nats<", ">training<",
                           ">validation<", "</svg>"})
    EXPECT_THAT(drawn, HasSubstr(part));
  EXPECT_EQ(count(drawn, "<polyline"), 2);
  EXPECT_EQ(count(drawn, "<circle"), 3);
  EXPECT_THAT(drawn, Not(HasSubstr("nan")));
}

TEST(Plot, EmptyAndConstantSeriesHaveAxesToo) {
  EXPECT_THAT(svg({.title = "nothing", .series = {{"a", {}, false}}}), Not(HasSubstr("nan")));
  EXPECT_THAT(svg({.title = "flat", .series = {{"a", {{1, 2}, {2, 2}}, false}}}),
              Not(HasSubstr("nan")));
}

TEST(Plot, TicksOfAnAxisHaveTheSameDigits) {
  const std::string drawn = svg({.title = "t", .series = {{"a", {{0, 7}, {1, 8.4}}, false}}});
  for (const char* label : {">7.0<", ">7.5<", ">8.5<", ">0.2<"})
    EXPECT_THAT(drawn, HasSubstr(label));
}

TEST(Plot, TicksAreRoundAndCoverTheRange) {
  EXPECT_THAT(nice_ticks(0.3, 9.2, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(nice_ticks(0, 1000, 2), ElementsAre(0, 500, 1000));
}

}  // namespace
}  // namespace farskip::util
