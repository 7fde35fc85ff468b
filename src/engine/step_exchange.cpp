#include "engine/step_exchange.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

namespace farskip::engine {
namespace {

/// A first message of a fixed size, which begins with the length of all that its sender has to say,
/// and has room for most of what is ever said; the rest comes in a second one.
constexpr int64_t kFirstBytes = 1024;
constexpr int64_t kRoom = kFirstBytes - static_cast<int64_t>(sizeof(int64_t));

at::Tensor first_message(const std::vector<uint8_t>& bytes) {
  at::Tensor first = at::zeros({kFirstBytes}, at::kByte);
  const int64_t size = std::ssize(bytes);
  auto* to = first.mutable_data_ptr<uint8_t>();
  std::memcpy(to, &size, sizeof size);
  std::copy_n(bytes.begin(), std::min(size, kRoom), to + sizeof size);
  return first;
}

at::Tensor second_message(const std::vector<uint8_t>& bytes, int64_t size) {
  at::Tensor second = at::zeros({size}, at::kByte);
  if (std::ssize(bytes) > kRoom)
    std::copy(bytes.begin() + kRoom, bytes.end(), second.mutable_data_ptr<uint8_t>());
  return second;
}

int64_t size_of(const at::Tensor& first) {
  int64_t size;
  std::memcpy(&size, first.const_data_ptr<uint8_t>(), sizeof size);
  return size;
}

/// `second` may be undefined where all was in the first.
std::vector<uint8_t> bytes_of(const at::Tensor& first, const at::Tensor& second) {
  const int64_t size = size_of(first);
  const auto* begin = first.const_data_ptr<uint8_t>() + sizeof size;
  std::vector<uint8_t> bytes(begin, begin + std::min(size, kRoom));
  if (size > kRoom) {
    const auto* more = second.const_data_ptr<uint8_t>();
    bytes.insert(bytes.end(), more, more + size - kRoom);
  }
  return bytes;
}

}  // namespace

News broadcast(const comm::Group& group, News own) {
  if (group.size() == 1) return own;
  constexpr const char* kWhat = "requests";
  const bool tells = group.rank() == 0;
  std::vector<uint8_t> bytes;
  if (tells && !own.empty()) bytes = to_bytes(own);
  const at::Tensor first = group.broadcast(kWhat, first_message(bytes), 0).wait();
  const int64_t size = size_of(first);
  at::Tensor second;
  if (size > kRoom) second = group.broadcast(kWhat, second_message(bytes, size - kRoom), 0).wait();
  if (tells) return own;
  if (size == 0) return {};
  bytes = bytes_of(first, second);
  return news_from(bytes.data(), size);
}

Gathered gather(const comm::Group& group, Report own, News news) {
  const int64_t ranks = group.size();
  if (ranks == 1) return {{std::move(own)}, std::move(news)};
  constexpr const char* kWhat = "requests and tokens";
  const std::vector<uint8_t> bytes = to_bytes(own, news);
  const auto by_rank = [&](const at::Tensor& all) { return all.view({ranks, -1}); };
  const at::Tensor first = by_rank(group.all_gather(kWhat, first_message(bytes)).wait());
  int64_t most = 0;
  for (int64_t r = 0; r < ranks; ++r) most = std::max(most, size_of(first[r]));
  at::Tensor second;
  if (most > kRoom)
    second = by_rank(group.all_gather(kWhat, second_message(bytes, most - kRoom)).wait());
  Gathered found;
  for (int64_t r = 0; r < ranks; ++r) {
    const auto said = bytes_of(first[r], second.defined() ? second[r] : at::Tensor());
    auto [report, of_rank] = report_from(said.data(), std::ssize(said));
    found.reports.push_back(std::move(report));
    if (r == 0) found.news = std::move(of_rank);
  }
  return found;
}

}  // namespace farskip::engine
