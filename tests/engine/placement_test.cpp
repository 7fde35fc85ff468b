#include "engine/placement.h"

#include <gtest/gtest.h>

namespace farskip::engine {
namespace {

Request request(int64_t first, int64_t length, int64_t new_tokens) {
  Request found;
  for (int64_t i = 0; i < length; ++i) found.prompt.push_back(first + i);
  found.max_new_tokens = new_tokens;
  return found;
}

TEST(Placement, GoesWhereTheFewestPagesAreNeeded) {
  Placement placement(3, 100, 4, true);
  const Place large = placement.take(request(0, 9, 30));  // 10 pages
  EXPECT_EQ(large.rank, 0);
  EXPECT_EQ(large.pages, 10);
  EXPECT_EQ(placement.take(request(100, 4, 4)).rank, 1);
  EXPECT_EQ(placement.take(request(200, 4, 8)).rank, 2);
  EXPECT_EQ(placement.take(request(300, 4, 8)).rank, 1);  // 2 + 3 to 3 + 3
  placement.release(large);
  EXPECT_EQ(placement.take(request(400, 4, 8)).rank, 0);
}

TEST(Placement, GoesWhereItsBeginningIsUnlessThatHasMoreToDo) {
  Placement placement(2, 100, 4, true);
  EXPECT_EQ(placement.take(request(0, 16, 8)).rank, 0);    // 6 pages; 3 of its prompt may be shared
  EXPECT_EQ(placement.take(request(100, 12, 4)).rank, 1);  // 4 pages
  const Place alike = placement.take(request(0, 20, 4));   // 6 + 6 - 3 to 4 + 6
  EXPECT_EQ(alike.rank, 0);
  EXPECT_EQ(alike.pages, 3);
  EXPECT_EQ(placement.take(request(0, 20, 4)).rank, 1);  // 9 + 6 - 4 to 4 + 6
  Request whole = request(0, 20, 4);
  whole.prompt_log_probabilities = true;
  EXPECT_EQ(placement.take(whole).pages, 6);
}

TEST(Placement, ForgetsTheBeginningsThatCameFirst) {
  Placement placement(2, 5, 4, true);
  const auto take = [&](int64_t first) {
    const Place place = placement.take(request(first, 13, 3));  // 4 pages, 3 of them known later
    placement.release(place);
    return place;
  };
  EXPECT_EQ(take(0).rank, 0);
  EXPECT_EQ(take(0).pages, 1);
  EXPECT_EQ(take(100).pages, 4);
  EXPECT_EQ(take(0).pages, 4);
}

}  // namespace
}  // namespace farskip::engine
