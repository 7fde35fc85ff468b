#include "train/loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "util/error.h"

namespace farskip::train {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere, unlike std::shuffle.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  /// In [0, bound), bound < 2^32, with a bias below 2^-32.
  uint64_t below(uint64_t bound) { return ((next() >> 32) * bound) >> 32; }

 private:
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

/// Writes ids[begin .. begin + length] as row `row`; what the sample does not have is padding.
void fill(const Rows& rows, int64_t row, const Sample& sample, int64_t begin) {
  const int64_t length = rows.tokens.size(1);
  const auto last = static_cast<int64_t>(sample.ids.size()) - 1;
  int64_t* tokens = rows.tokens.data_ptr<int64_t>() + row * length;
  int64_t* targets = rows.targets.data_ptr<int64_t>() + row * length;
  bool* learn = rows.learn.data_ptr<bool>() + row * length;
  for (int64_t i = 0; i < length; ++i) {
    const bool there = begin + i < last;
    tokens[i] = sample.ids[std::min(begin + i, last)];
    targets[i] = sample.ids[std::min(begin + i + 1, last)];
    learn[i] = there && sample.learn[begin + i + 1];
  }
}

Rows empty_rows(int64_t rows, int64_t length) {
  return {at::empty({rows, length}, at::kLong), at::empty({rows, length}, at::kLong),
          at::empty({rows, length}, at::kBool)};
}

void drop_front(Sample& sample, int64_t count) {
  sample.ids.erase(sample.ids.begin(), sample.ids.begin() + count);
  sample.learn.erase(sample.learn.begin(), sample.learn.begin() + count);
}

}  // namespace

Rows Rows::slice(int64_t begin, int64_t size) const {
  return {tokens.narrow(0, begin, size), targets.narrow(0, begin, size),
          learn.narrow(0, begin, size), begin + size == count() ? padding : 0};
}

Rows Rows::part(int64_t begin, int64_t end) const {
  const auto some = [&](const at::Tensor& all) {
    return all.reshape({-1}).narrow(0, begin, end - begin);
  };
  return {some(tokens), some(targets), some(learn)};
}

at::Tensor Rows::selected() const {
  return learn.reshape({-1}).nonzero().reshape({-1});
}

Loader::Loader(const Pieces& pieces, const TextCodec& codec, int64_t rows, int64_t length,
               uint64_t seed)
    : pieces_(pieces), codec_(codec), length_(length), seed_(seed), streams_(rows) {
  shuffle();
}

void Loader::shuffle() {
  order_.resize(pieces_.size());
  std::iota(order_.begin(), order_.end(), 0);
  Random random(seed_ * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(epoch_));
  for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.below(i)]);
}

int64_t Loader::next_piece() {
  if (cursor_ == pieces_.size()) {
    cursor_ = 0;
    ++epoch_;
    shuffle();
  }
  return order_[cursor_++];
}

void Loader::append(Stream& stream, int64_t piece) {
  const Sample sample = read_piece(pieces_, piece, codec_);
  stream.pieces.push_back({piece, static_cast<int64_t>(sample.ids.size())});
  stream.sample.add(sample);
}

void Loader::take_piece(Stream& stream) {
  for (int64_t tried = 0; tried < pieces_.size(); ++tried) {
    append(stream, next_piece());
    if (stream.pieces.back().tokens > 0) return;
    stream.pieces.pop_back();
  }
  throw InputError(pieces_.describe() +
                   ": found nothing that can be learnt, expected text or answers");
}

Rows Loader::next() {
  const Rows rows = empty_rows(static_cast<int64_t>(streams_.size()), length_);
  for (size_t s = 0; s < streams_.size(); ++s) {
    Stream& stream = streams_[s];
    while (static_cast<int64_t>(stream.sample.ids.size()) - stream.used < length_ + 1)
      take_piece(stream);
    fill(rows, static_cast<int64_t>(s), stream.sample, stream.used);
    stream.used += length_;  // the last target is the next row's first token
    while (stream.used >= stream.pieces.front().tokens) {
      const int64_t tokens = stream.pieces.front().tokens;
      drop_front(stream.sample, tokens);
      stream.used -= tokens;
      stream.pieces.pop_front();
    }
  }
  return rows;
}

nlohmann::json Loader::state() const {
  nlohmann::json streams = nlohmann::json::array();
  for (const Stream& stream : streams_) {
    nlohmann::json pieces = nlohmann::json::array();
    for (const Held& held : stream.pieces) pieces.push_back(held.piece);
    streams.push_back({{"pieces", pieces}, {"used", stream.used}});
  }
  return {{"data", pieces_.describe()}, {"seed", seed_},     {"length", length_}, {"epoch", epoch_},
          {"cursor", cursor_},          {"streams", streams}};
}

void Loader::restore(const nlohmann::json& state) {
  const auto same = [&](const char* what, const nlohmann::json& mine) {
    util::require(state.at(what) == mine, util::concat("resumed run: ", what), mine.dump(),
                  state.at(what).dump() + " as before");
  };
  same("data", pieces_.describe());
  same("seed", seed_);
  same("length", length_);
  const nlohmann::json& streams = state.at("streams");
  util::require(streams.size() == streams_.size(), "resumed run: sequences a batch",
                streams_.size(), util::concat(streams.size(), " as before"));
  epoch_ = state.at("epoch").get<int64_t>();
  shuffle();
  cursor_ = state.at("cursor").get<int64_t>();
  for (size_t s = 0; s < streams_.size(); ++s) {
    streams_[s] = Stream();
    for (const nlohmann::json& piece : streams[s].at("pieces"))
      append(streams_[s], piece.get<int64_t>());
    streams_[s].used = streams[s].at("used").get<int64_t>();
  }
}

Rows first_rows(const Pieces& pieces, const TextCodec& codec, int64_t length, int64_t max_tokens) {
  Sample sample;
  const auto positions = [&] {
    return std::min(max_tokens, static_cast<int64_t>(sample.ids.size()) - 1);
  };
  for (int64_t index = 0; index < pieces.size() && positions() < max_tokens; ++index) {
    Sample piece = read_piece(pieces, index, codec);
    // In their own order, a piece follows what it was cut from.
    if (!pieces.is_lines(index) && !pieces[index].starts_document && !piece.learn.empty())
      piece.learn.front() = true;
    sample.add(piece);
  }
  util::require(positions() > 0, pieces.describe(),
                sample.ids.empty() ? "no tokens" : "a single token", "text");
  sample.ids.resize(positions() + 1);
  sample.learn.resize(sample.ids.size());
  length = std::min(length, positions());
  const int64_t rows = (positions() + length - 1) / length;
  Rows out = empty_rows(rows, length);
  for (int64_t row = 0; row < rows; ++row) fill(out, row, sample, row * length);
  out.padding = rows * length - positions();
  return out;
}

}  // namespace farskip::train
