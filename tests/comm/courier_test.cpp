// Expert traffic: sizes that only the sender knows, one order on all ranks, what is measured.
#include "comm/courier.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"

namespace farskip::comm {
namespace {

using std::chrono::milliseconds;
using Part = MessageName::Part;

/// Rows that rank `from` sends to rank `to` in round `round`, some none.
int64_t rows_between(int64_t from, int64_t to, int64_t round) {
  return (3 * from + 5 * to + round) % 4;
}

at::Tensor rows(int64_t from, int64_t to, int64_t round) {
  return at::full({rows_between(from, to, round), 8}, 100 * round + 10 * from + to, at::kByte);
}

TEST(Courier, CarriesRowsWhoseNumberTheReceiverDoesNotKnow) {
  for (const bool late : {false, true})
    for (const int64_t size : {2, 3, 4})
      Rendezvous::threads(size, [&](Rendezvous& rendezvous) {
        Group data = rendezvous.all(), counts = rendezvous.all();
        const int64_t rank = rendezvous.rank();
        if (late) data = delayed(data, 7 + rank, milliseconds(5));
        Courier courier(data, counts);
        MessageLog log;
        courier.record(&log);
        std::vector<Pending> there, back;
        std::vector<std::shared_ptr<Splits>> received;
        std::vector<Splits> sent;
        // Several in flight at once; answers are launched before the next ones are waited for.
        for (int64_t round = 0; round < 3; ++round) {
          std::vector<at::Tensor> out;
          sent.emplace_back();
          for (int64_t to = 0; to < size; ++to) {
            out.push_back(rows(rank, to, round));
            sent.back().push_back(out.back().size(0));
          }
          received.push_back(std::make_shared<Splits>());
          there.push_back(courier.dispatch({round, Part::dispatch}, at::cat(out), sent.back(),
                                           received.back()));
        }
        for (int64_t round = 0; round < 3; ++round) {
          std::vector<at::Tensor> expected;
          for (int64_t from = 0; from < size; ++from) expected.push_back(rows(from, rank, round));
          const at::Tensor got = there[round].wait();
          EXPECT_TRUE(got.equal(at::cat(expected)));
          back.push_back(courier.send({round, Part::combine}, got, *received[round], sent[round]));
        }
        for (int64_t round = 0; round < 3; ++round) {
          std::vector<at::Tensor> expected;
          for (int64_t to = 0; to < size; ++to) expected.push_back(rows(rank, to, round));
          EXPECT_TRUE(back[round].wait().equal(at::cat(expected)));
        }
        EXPECT_EQ(log.messages.size(), 6u);
        for (const Message& message : log.messages) {
          EXPECT_LE(message.launched, message.arrived);
          EXPECT_LE(message.asked, message.wait_begin);
          EXPECT_LE(message.wait_begin, message.wait_end);
        }
        EXPECT_GT(courier.take_peak_bytes(), 0);
        EXPECT_EQ(courier.take_peak_bytes(), 0) << "bytes are still counted as in flight";
      });
}

TEST(Courier, RefusesAnotherOrderByName) {
  try {
    Rendezvous::threads(
        2,
        [](Rendezvous& rendezvous) {
          Group data = rendezvous.all(), counts = rendezvous.all();
          Courier courier(data, counts);
          const auto received = std::make_shared<Splits>();
          courier
              .dispatch({rendezvous.rank() == 0 ? 3 : 4, Part::dispatch},
                        at::zeros({2, 8}, at::kByte), {1, 1}, received)
              .wait();
        },
        milliseconds(3000));
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("dispatch: rank 1 has launched other messages"));
  }
}

TEST(Courier, WithoutANetworkGivesBackWhatIsSent) {
  const Group nobody = without_network(1, 3);
  Courier courier(nobody, nobody);
  const auto received = std::make_shared<Splits>();
  const at::Tensor x = at::arange(24).view({3, 8});
  EXPECT_TRUE(courier.dispatch({0, Part::dispatch}, x, {2, 0, 1}, received).wait().equal(x));
  EXPECT_THAT(*received, testing::ElementsAre(2, 0, 1));
}

TEST(MessageLog, CountsMessagesInFlightTogetherOnceAndWaitsWhereTheyFall) {
  const auto at = [](int ms) { return Clock::time_point(milliseconds(ms)); };
  // Two that overlap, 0..40 and 20..60; the thread waits 30..50. A third 100..110, never waited
  // for.
  MessageLog log;
  log.messages = {{{0, Part::dispatch}, 10, at(0), at(40), at(30), at(30), at(40)},
                  {{0, Part::combine}, 20, at(20), at(60), at(40), at(40), at(50)},
                  {{1, Part::dispatch, true}, 30, at(100), at(110), at(120), at(120), at(120)}};
  const Traffic forward = measure(log, [](const Message& m) { return !m.name.backward; });
  EXPECT_NEAR(forward.communication, 0.060, 1e-9);
  EXPECT_NEAR(forward.exposed, 0.020, 1e-9);
  EXPECT_NEAR(forward.hidden(), 2.0 / 3, 1e-9);
  EXPECT_EQ(forward.bytes, 30);
  EXPECT_EQ(measure(log, [](const Message& m) { return m.name.backward; }).hidden(), 1);
  EXPECT_EQ((MessageName{7, Part::combine, true, 2}).describe(),
            "layer 7 combine gradient, chunk 2");
}

TEST(Rendezvous, RanksThatDisagreeAllSayWho) {
  std::vector<std::string> said(2);
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    rendezvous.agree({{"layout", "ep 2 x dp 1"}});
    try {
      rendezvous.agree(
          {{"layout", "ep 2 x dp 1"}, {"checkpoint", rendezvous.rank() == 0 ? "cafe" : "beef"}});
    } catch (const InputError& error) {
      said[rendezvous.rank()] = error.what();
    }
  });
  EXPECT_EQ(said[0], "rank 1: checkpoint: found beef, expected cafe as rank 0 has");
  EXPECT_EQ(said[1], "rank 0: checkpoint: found cafe, expected beef as rank 1 has");
}

}  // namespace
}  // namespace farskip::comm
