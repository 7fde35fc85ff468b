// The tokens of one forward pass, packed row after row without padding.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace farskip::model {

/// One sequence's share of a forward pass: `count` new tokens after `past` ones that lie in the KV
/// cache.
struct Segment {
  int64_t past = 0;
  int64_t count = 0;
  /// Of the cache, in the order of the sequence's tokens: those that past and new tokens take.
  std::vector<int64_t> pages = {};
  bool operator==(const Segment&) const = default;
};

struct Batch {
  at::Tensor tokens;     ///< int64 [N], N = sum of the counts
  at::Tensor positions;  ///< int64 [N]: past, past + 1, ... within each segment
  std::vector<Segment> segments;

  int64_t size() const { return tokens.numel(); }
  /// All segments start afresh and have the same length: attention can take them as one dense
  /// batch.
  bool uniform() const;

  /// Rows of whole sequences without a cache: tokens int64 [batch, length].
  static Batch whole(const at::Tensor& tokens);
  /// One segment a row, of its own length, from `past` on; in the cache it has page i alone.
  static Batch rows(const std::vector<std::vector<int64_t>>& rows, const std::vector<int64_t>& past,
                    at::Device device);
};

}  // namespace farskip::model
