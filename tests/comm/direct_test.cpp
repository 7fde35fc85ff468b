// Messages over sockets of our own: contents, order, precedence, failures.
#include "comm/direct.h"

#include <ATen/ATen.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "comm/message_stream.h"
#include "comm/sockets.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

/// Runs every rank on a thread of its own; what a rank ended with, by rank, empty if well.
std::vector<std::string> on_ranks(int64_t size,
                                  const std::function<void(int64_t, DirectLinks&)>& run,
                                  milliseconds timeout = milliseconds(20000)) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::string> said(size);
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        DirectLinks links(store, "test", "127.0.0.1", rank, size, timeout);
        run(rank, links);
      } catch (const std::exception& error) {
        said[rank] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return said;
}

/// The bytes of message `i` from one rank to another, known to both.
at::Tensor message(int64_t i, int64_t from, int64_t to, int64_t bytes) {
  return at::arange(bytes, at::kInt).mul_(from + 3).add_(to * 7 + i).remainder_(251).to(at::kByte);
}

TEST(DirectLinks, CarryMessagesOfAnySizeThatAreAwaitedInAnyOrder) {
  // The largest fill the kernel's buffers on both ends before anybody reads.
  const std::vector<int64_t> sizes = {8, 0, 1, 40000, 3, 600000, 17, 1500000, 64, 0, 5};
  for (const int64_t size : {2, 4}) {
    const auto said = on_ranks(size, [&](int64_t rank, DirectLinks& links) {
      std::vector<std::pair<int64_t, std::unique_ptr<Work>>> works;
      for (int64_t i = 0; i < std::ssize(sizes); ++i) {
        std::vector<DirectLinks::Part> parts;
        std::vector<at::Tensor> in;
        at::Tensor output = at::zeros({size, sizes[i]}, at::kByte);
        for (int64_t peer = 0; peer < size; ++peer)
          if (peer != rank) parts.push_back({peer, message(i, rank, peer, sizes[i]), output[peer]});
        works.emplace_back(i, links.exchange(parts, output));
      }
      std::shuffle(works.begin(), works.end(), std::mt19937(rank));
      for (auto& [i, work] : works) {
        const at::Tensor output = work->wait();
        EXPECT_TRUE(work->arrived());
        EXPECT_LE(work->arrival(), Clock::now());
        EXPECT_GT(work->arrival(), Clock::now() - std::chrono::seconds(20));
        for (int64_t peer = 0; peer < size; ++peer) {
          if (peer == rank) continue;
          EXPECT_TRUE(output[peer].equal(message(i, peer, rank, sizes[i]))) << i;
        }
      }
    });
    EXPECT_THAT(said, testing::Each(""));
  }
}

TEST(DirectLinks, LetOneThreadLaunchWhileAnotherWaits) {
  // As a courier's thread does. Whoever launches must not take what the other sleeps for.
  const auto said = on_ranks(
      2,
      [&](int64_t rank, DirectLinks& links) {
        for (int64_t i = 0; i < 200; ++i) {
          std::unique_ptr<Work> first, second;
          const auto launch = [&](int64_t bytes) {
            const at::Tensor in = at::zeros({bytes}, at::kByte);
            return links.exchange({{1 - rank, message(i, rank, 1 - rank, bytes), in}}, in);
          };
          first = launch(1000 + i);
          std::thread courier([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(50 * (i % 5)));
            second = launch(10);
          });
          EXPECT_TRUE(first->wait().equal(message(i, 1 - rank, rank, 1000 + i)));
          courier.join();
          EXPECT_TRUE(second->wait().equal(message(i, 1 - rank, rank, 10)));
        }
      },
      milliseconds(3000));
  EXPECT_THAT(said, testing::Each(""));
}

TEST(DirectLinks, GiveAMessageWithoutTheNext) {
  // The thread that moves them sleeps until a good deal of all that is awaited is there. Here the
  // end of a message comes late, and the next one only when this one has been read. A large one
  // before opens the kernel's window, which wakes sleepers as long as it is small.
  constexpr std::array<int64_t, 3> kBytes = {8000000, 200000, 200000};
  constexpr int64_t kEnd = 50000, kAnswer = 10;
  const auto pause = [] { std::this_thread::sleep_for(milliseconds(100)); };
  enum How { waits_at_once, waits_for_the_end, looks };
  for (const How how : {waits_at_once, waits_for_the_end, looks}) {
    const auto store = c10::make_intrusive<c10d::HashStore>();
    std::atomic<int64_t> begun = -1;
    std::thread other([&] {
      const auto connections = meet(*store, "test", "127.0.0.1", 0, 2, milliseconds(20000));
      const auto push = [&](const void* data, int64_t size) {
        EXPECT_EQ(send(connections[1].get(), data, size, MSG_NOSIGNAL), size);
      };
      for (int64_t i = 0; i < std::ssize(kBytes); ++i) {
        const Transfer::Header header{.number = static_cast<uint64_t>(i),
                                      .bytes = static_cast<uint64_t>(kBytes[i])};
        const at::Tensor sent = message(i, 0, 1, kBytes[i]);
        push(&header, sizeof header);
        push(sent.const_data_ptr(), kBytes[i] - kEnd);
        pause();
        begun = i;
        pause();
        push(sent.const_data_ptr<uint8_t>() + kBytes[i] - kEnd, kEnd);
        std::array<char, sizeof header + kAnswer> answer{};
        EXPECT_EQ(recv(connections[1].get(), answer.data(), answer.size(), MSG_WAITALL),
                  answer.size());
      }
    });
    DirectLinks links(store, "test", "127.0.0.1", 1, 2, milliseconds(3000));
    std::vector<std::unique_ptr<Work>> works;
    for (const int64_t bytes : kBytes) {
      const at::Tensor in = at::zeros({bytes}, at::kByte);
      works.push_back(links.exchange({{0, {}, in}}, in));
    }
    for (int64_t i = 0; i < std::ssize(kBytes); ++i) {
      const auto until = Clock::now() + milliseconds(2000);
      while (how == waits_for_the_end && begun < i) std::this_thread::yield();
      while (how == looks && !works[i]->arrived() && Clock::now() < until) pause();
      EXPECT_TRUE(works[i]->wait().equal(message(i, 0, 1, kBytes[i]))) << how;
      EXPECT_LT(Clock::now(), until) << how;
      links.exchange({{0, message(0, 1, 0, kAnswer), {}}}, {})->wait();
    }
    other.join();
  }
}

TEST(DirectLinks, InTheBackgroundGiveWayToBusyOnes) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::array<std::thread, 2> ranks;
  std::atomic<int> ready = 0;
  for (int64_t rank = 0; rank < 2; ++rank)
    ranks[rank] = std::thread([&, rank] {
      const auto urgent = std::make_shared<UrgentMessages>(0);
      const auto links = [&](const char* name, Urgency urgency) {
        return std::make_unique<DirectLinks>(store, name, "127.0.0.1", rank, 2, milliseconds(20000),
                                             Precedence{urgent, urgency});
      };
      const auto first = links("first", Urgency::now),
                 second = links("second", Urgency::background);
      const at::Tensor small = at::zeros({1000}, at::kByte),
                       large = at::zeros({3000000}, at::kByte);
      const auto launch = [&](DirectLinks& by, const at::Tensor& in) {
        return by.exchange({{1 - rank, message(0, rank, 1 - rank, in.numel()), in}}, in);
      };
      const auto together = [&](int step) {
        for (++ready; ready < 2 * step;) std::this_thread::yield();
      };
      auto waited = launch(*first, small);
      EXPECT_EQ(*urgent, 0) << "the kernel has it";
      EXPECT_TRUE(waited->wait().equal(message(0, 1 - rank, rank, 1000)));
      together(1);
      std::unique_ptr<Work> ahead;
      if (rank == 0) {
        ahead = launch(*first, large);
        EXPECT_EQ(*urgent, 1) << "the other rank sends nothing yet";
      }
      auto held = launch(*second, at::zeros({3000000}, at::kByte));
      together(2);
      if (rank == 1) {
        std::this_thread::sleep_for(milliseconds(100));
        EXPECT_FALSE(held->arrived()) << "rank 0 is busy";
        ahead = launch(*first, large);
      }
      EXPECT_TRUE(ahead->wait().equal(message(0, 1 - rank, rank, 3000000)));
      EXPECT_TRUE(held->wait().equal(message(0, 1 - rank, rank, 3000000)));
      EXPECT_EQ(*urgent, 0);
      together(3);
    });
  for (std::thread& rank : ranks) rank.join();
}

TEST(DirectLinks, SayWhoIsGoneSilentOrOutOfStep) {
  const auto exchange = [](DirectLinks& links, int64_t peer, int64_t bytes) {
    const at::Tensor in = at::zeros({bytes}, at::kByte);
    links.exchange({{peer, message(0, 0, 0, bytes), in}}, in)->wait();
  };
  auto said = on_ranks(2, [&](int64_t rank, DirectLinks& links) {
    if (rank == 0) exchange(links, 1, 100);
  });
  EXPECT_THAT(said[0], testing::AnyOf(HasSubstr("connection closed by rank 1"),
                                      HasSubstr("from rank 1: Connection reset")));
  said = on_ranks(2, [&](int64_t rank, DirectLinks& links) {
    exchange(links, 1 - rank, rank == 0 ? 100 : 50);
  });
  EXPECT_THAT(said, testing::Contains(HasSubstr("expected message 0 of")));
  said = on_ranks(
      2,
      [&](int64_t rank, DirectLinks& links) {
        if (rank == 0) return exchange(links, 1, 100);
        std::this_thread::sleep_for(milliseconds(600));
      },
      milliseconds(300));
  EXPECT_THAT(said[0], HasSubstr("timed out after 300 ms"));
}

TEST(DirectLinks, WaitForWhoIsSlowAsLongAsSomethingComes) {
  const auto said = on_ranks(
      2,
      [](int64_t rank, DirectLinks& links) {
        std::vector<std::unique_ptr<Work>> works;
        for (int i = 0; i < 4; ++i) {
          if (rank == 1) std::this_thread::sleep_for(milliseconds(300));
          const at::Tensor in = at::zeros({100}, at::kByte);
          works.push_back(links.exchange({{1 - rank, message(i, rank, 1 - rank, 100), in}}, in));
        }
        EXPECT_TRUE(works.back()->wait().equal(message(3, 1 - rank, rank, 100)));
      },
      milliseconds(800));
  EXPECT_THAT(said, testing::Each(""));
}

TEST(DirectLinks, TurnStrangersAway) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<util::UniqueFd> found;
  std::thread first([&] { found = meet(*store, "test", "127.0.0.1", 0, 2, milliseconds(20000)); });
  const auto bytes = store->get("test/0");
  const auto place = nlohmann::json::parse(bytes.begin(), bytes.end());
  const util::UniqueFd stranger(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(place["port"].get<std::string>())));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(stranger.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string nonsense(40, 'x');
  ASSERT_EQ(send(stranger.get(), nonsense.data(), nonsense.size(), 0), 40);
  const auto own = meet(*store, "test", "127.0.0.1", 1, 2, milliseconds(20000));
  first.join();
  char byte = 'b';
  ASSERT_EQ(send(own[0].get(), &byte, 1, 0), 1);
  ASSERT_EQ(recv(found[1].get(), &byte, 1, 0), 1) << "it is the other rank that is connected";
  EXPECT_EQ(recv(stranger.get(), &byte, 1, 0), 0) << "and not the stranger";
}

TEST(DirectLinks, NeedTheOthersInTime) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  try {
    meet(*store, "test", "127.0.0.1", 0, 2, milliseconds(200));
    FAIL() << "nobody else was there";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("timed out waiting for 1 of the other ranks"));
  }
  EXPECT_THROW(meet(*store, "test2", "no address", 0, 2, milliseconds(200)), Error);
}

}  // namespace
}  // namespace farskip::comm
