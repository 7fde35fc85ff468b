#include "measure/windows.h"

#include <gtest/gtest.h>

namespace farskip::measure {
namespace {

using comm::Clock;
using schedule::Part;
using Message = comm::MessageName::Part;

/// Parts of so many milliseconds each, one after the other.
std::vector<schedule::PartSpan> parts(
    const std::vector<std::tuple<Part, int64_t, int64_t>>& of_layers) {
  std::vector<schedule::PartSpan> spans;
  Clock::time_point now{};
  for (const auto& [part, layer, ms] : of_layers) {
    const auto end = now + std::chrono::milliseconds(ms);
    spans.push_back({part, layer, false, now, end});
    now = end;
  }
  return spans;
}

MessageFigures message(Message part, int64_t layer, double ms, int64_t chunk = -1) {
  return {.name = {layer, part, false, chunk}, .communication = 1e-3 * ms};
}

TEST(Windows, OfReplicatedTokensAreRoutedExpertsAndTheNextAttention) {
  const auto computed = parts({{Part::attention_prepare, 1, 3},
                               {Part::attend, 1, 4},
                               {Part::experts, 1, 10},
                               {Part::shared, 1, 5},
                               {Part::attention_prepare, 2, 2},
                               {Part::attend, 2, 4},
                               {Part::experts, 2, 1}});
  const Windows found = windows({message(Message::merged, 1, 12), message(Message::routed, 1, 4, 0),
                                 message(Message::routed, 1, 3, 1), message(Message::merged, 2, 3),
                                 message(Message::routed, 2, 1), message(Message::logits, 0, 1)},
                                computed);
  EXPECT_NEAR(found.communication, 0.024, 1e-12);
  EXPECT_NEAR(found.exposed, 0.002 + 0.001 + 0.002 + 0.001 + 0.001, 1e-12);
  EXPECT_NEAR(found.hidden(), 17.0 / 24, 1e-12);
}

TEST(Windows, OfOwnTokensAreAllOfALayerButGateAndRoutedExperts) {
  const auto computed = parts({{Part::attention_prepare, 1, 3},
                               {Part::route, 1, 2},
                               {Part::attend, 1, 4},
                               {Part::experts, 1, 20},
                               {Part::combine, 1, 2},
                               {Part::shared, 1, 5}});
  for (const auto& [there, back] :
       {std::pair{Message::dispatch, Message::combine}, {Message::gather, Message::scatter}}) {
    const Windows found =
        windows({message(there, 1, 5), message(back, 1, 6, 0), message(back, 1, 4, 1)}, computed);
    EXPECT_NEAR(found.communication, 0.015, 1e-12);
    EXPECT_NEAR(found.exposed, 0.003, 1e-12);
  }
  EXPECT_EQ(windows(std::vector<MessageFigures>{}, computed).hidden(), 1);
}

}  // namespace
}  // namespace farskip::measure
