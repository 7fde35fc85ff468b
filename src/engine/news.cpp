#include "engine/news.h"

#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>

namespace farskip::engine {
namespace {

using Json = nlohmann::json;

/// What the first message has room for, its length included; more comes in a second one.
constexpr int64_t kFirstBytes = 512;

Json to_json(const SamplingOptions& s) {
  return {s.temperature,
          s.top_p,
          s.seed,
          s.top_k,
          s.min_p,
          s.repetition_penalty,
          s.presence_penalty,
          s.frequency_penalty,
          s.logit_bias};
}

SamplingOptions sampling_from(const Json& json) {
  SamplingOptions s;
  size_t i = 0;
  const auto read = [&](auto& field) { json.at(i++).get_to(field); };
  read(s.temperature), read(s.top_p), read(s.seed), read(s.top_k), read(s.min_p);
  read(s.repetition_penalty), read(s.presence_penalty), read(s.frequency_penalty);
  read(s.logit_bias);
  return s;
}

std::vector<uint8_t> to_bytes(const News& news) {
  Json submitted = Json::array();
  for (const auto& [id, request] : news.submitted)
    submitted.push_back({id, request.prompt, to_json(request.sampling), request.max_new_tokens,
                         request.stop_tokens, request.log_probabilities.value_or(-1),
                         request.prompt_log_probabilities});
  return Json::to_cbor({submitted, news.cancelled, news.stopped, news.closed});
}

News from_bytes(const uint8_t* bytes, int64_t size) {
  const Json json = Json::from_cbor(bytes, bytes + size);
  News news;
  for (const Json& one : json.at(0)) {
    Submitted submitted{one.at(0), {one.at(1), sampling_from(one.at(2)), one.at(3), one.at(4)}};
    if (one.at(5) >= 0) submitted.request.log_probabilities = one.at(5).get<int64_t>();
    submitted.request.prompt_log_probabilities = one.at(6);
    news.submitted.push_back(std::move(submitted));
  }
  json.at(1).get_to(news.cancelled);
  json.at(2).get_to(news.stopped);
  json.at(3).get_to(news.closed);
  return news;
}

}  // namespace

News shared(const comm::Group& group, News own) {
  if (group.size() == 1) return own;
  const bool tells = group.rank() == 0;
  std::vector<uint8_t> bytes;
  if (tells && !own.empty()) bytes = to_bytes(own);

  at::Tensor first = at::zeros({kFirstBytes}, at::kByte);
  int64_t size = std::ssize(bytes);
  constexpr int64_t kRoom = kFirstBytes - static_cast<int64_t>(sizeof size);
  const auto at_start = [&] { return first.mutable_data_ptr<uint8_t>(); };
  std::memcpy(at_start(), &size, sizeof size);
  if (tells && size > 0) std::memcpy(at_start() + sizeof size, bytes.data(), std::min(size, kRoom));
  first = group.broadcast("requests", first, 0).wait();
  std::memcpy(&size, at_start(), sizeof size);
  if (size == 0) return {};
  at::Tensor rest;
  if (size > kRoom) {
    rest = at::empty({size - kRoom}, at::kByte);
    if (tells) std::memcpy(rest.mutable_data_ptr(), bytes.data() + kRoom, size - kRoom);
    rest = group.broadcast("requests", rest, 0).wait();
  }
  if (tells) return own;
  bytes.assign(at_start() + sizeof size, at_start() + sizeof size + std::min(size, kRoom));
  if (rest.defined()) {
    const auto* more = rest.const_data_ptr<uint8_t>();
    bytes.insert(bytes.end(), more, more + rest.numel());
  }
  return from_bytes(bytes.data(), size);
}

}  // namespace farskip::engine
