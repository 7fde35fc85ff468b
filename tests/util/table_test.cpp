#include "util/table.h"

#include <gtest/gtest.h>

#include "util/error.h"

namespace farskip::util {

TEST(Table, AlignsWordsLeftAndNumbersRight) {
  Table table({"name", "loss"});
  table.add({"größer", "2.31"});
  table.add({"b", "-10.5"});
  table.add({"c"});
  EXPECT_EQ(table.text(),
            "name     loss\n"
            "------  -----\n"
            "größer   2.31\n"
            "b       -10.5\n"
            "c\n");
  EXPECT_EQ(table.markdown(),
            "| name   |  loss |\n"
            "|--------|------:|\n"
            "| größer |  2.31 |\n"
            "| b      | -10.5 |\n"
            "| c      |       |\n");
  EXPECT_THROW(table.add({"1", "2", "3"}), Error);
}

TEST(Table, WordsNumbersAndTimes) {
  EXPECT_EQ(fixed(1.005, 1), "1.0");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(duration(0.84), "0.8 s");
  EXPECT_EQ(duration(42.2), "42 s");
  EXPECT_EQ(duration(432), "7 min 12 s");
  EXPECT_EQ(duration(11100), "3 h 05 min");
}

}  // namespace farskip::util
