#include "util/error.h"

#include <gtest/gtest.h>

namespace farskip {

TEST(Error, RequireNamesTheThingAndBothValues) {
  util::require(true, "never thrown", 1, 2);
  try {
    util::require(false, "config.json: hidden_size", -4, "a positive number");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "config.json: hidden_size: found -4, expected a positive number");
  }
}

}  // namespace farskip
