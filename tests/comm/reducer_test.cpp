// Sums over ranks, whichever way they travel.
#include "comm/reducer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "comm/rendezvous.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

using Part = MessageName::Part;

TEST(Reducer, GivesEveryRankTheSameBitsOfTheSum) {
  struct Case {
    std::vector<int64_t> shape;
    at::ScalarType dtype, wire;
  };
  // Small ones go to everybody at once, large ones around a ring.
  std::vector<Case> cases;
  for (const auto& shape : {std::vector<int64_t>{3, 5}, {1, 64}, {300, 300}, {0, 8}})
    for (const auto& [dtype, wire] : {std::pair{at::kFloat, at::kFloat},
                                      {at::kBFloat16, at::kBFloat16},
                                      {at::kFloat, at::kBFloat16},
                                      {at::kDouble, at::kDouble}})
      cases.push_back({shape, dtype, wire});
  for (const int64_t size : {1, 2, 4}) {
    std::vector<std::vector<at::Tensor>> found(size);
    Rendezvous::threads(size, [&](Rendezvous& rendezvous) {
      Reducer reducer(rendezvous.all());
      const int64_t rank = rendezvous.rank();
      std::vector<Pending> pending;
      for (const Case& c : cases) {  // all under way at once
        // Sums of small integers are exact in every dtype.
        const at::Tensor x =
            (at::arange(c.shape[0] * c.shape[1]) + rank).remainder(17).view(c.shape).to(c.dtype);
        pending.push_back(reducer.all_reduce({.layer = 1, .part = Part::routed}, x.t(), c.wire));
      }
      for (Pending& one : pending) found[rank].push_back(one.wait());
      const auto rows_of = [&](int64_t r) {
        return (at::arange(size * 10) + r).remainder(17).view({size * 2, 5}).to(at::kFloat);
      };
      at::Tensor sum = at::zeros({size * 2, 5});
      for (int64_t r = 0; r < size; ++r) sum += rows_of(r);
      EXPECT_TRUE(reducer.reduce_scatter({.part = Part::merged}, rows_of(rank), at::kBFloat16)
                      .wait()
                      .equal(sum.narrow(0, rank * 2, 2)));
      EXPECT_TRUE(reducer.all_gather({.part = Part::logits}, at::full({2, 3}, rank))
                      .wait()
                      .equal(at::arange(size).repeat_interleave(2).unsqueeze(1).expand({-1, 3})));
    });
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& c = cases[i];
      at::Tensor expected = at::zeros(c.shape, c.dtype);
      for (int64_t rank = 0; rank < size; ++rank)
        expected +=
            (at::arange(c.shape[0] * c.shape[1]) + rank).remainder(17).view(c.shape).to(c.dtype);
      for (const auto& of_rank : found) {
        EXPECT_EQ(of_rank[i].scalar_type(), c.dtype);
        EXPECT_TRUE(of_rank[i].equal(expected.t())) << i << " on " << size;
      }
    }
  }
}

TEST(Reducer, RecordsWhatIsSent) {
  Rendezvous::threads(4, [](Rendezvous& rendezvous) {
    Reducer reducer(rendezvous.all());
    MessageLog log;
    reducer.record(&log);
    for (const int64_t rows : {2, 0, 1000}) {
      Pending sum = reducer.all_reduce({.layer = rows, .part = Part::merged}, at::ones({rows, 256}),
                                       at::kFloat);
      sum.arrived();  // a look is not a request
      if (rows == 1000) sum.ask();
      sum.wait();
    }
    reducer.record(nullptr);
    reducer.all_reduce({.part = Part::mlp}, at::ones({1}), at::kFloat).wait();
    ASSERT_EQ(log.messages.size(), 2u);
    EXPECT_EQ(log.messages[0].bytes, 3 * 2 * 1024);             // everything to three ranks
    EXPECT_EQ(log.messages[1].bytes, 2 * 3 * 1000 * 1024 / 4);  // a ring
    for (const Message& message : log.messages) {
      EXPECT_LE(message.launched, message.arrived);
      EXPECT_LE(message.asked, message.wait_begin);
    }
    EXPECT_EQ(log.messages[0].asked, log.messages[0].wait_begin);
    EXPECT_LT(log.messages[1].asked, log.messages[1].wait_begin);
    EXPECT_EQ(log.messages[1].name.describe(), "layer 1000 attention and MLP");
  });
}

}  // namespace
}  // namespace farskip::comm
