// The player of the replicated layout's program that computes: the parts of a layer on this rank's
// slices, and the sums over the ranks.
#pragma once
#include <algorithm>

#include "schedule/tensor_layer.h"

namespace farskip::schedule {

class ReplicatedLayer : public TensorLayer {
 public:
  using TensorLayer::TensorLayer;

  /// Tokens that follow one another.
  struct Wave {
    int64_t begin = 0, count = 0;
    at::Tensor of(const at::Tensor& x) const {
      return count == x.size(0) ? x : x.narrow(0, begin, count);
    }
  };

  /// All tokens in one, if the layer's messages are covered. Else as many as ExpertRanks::waves, if
  /// none gets so few tokens that reading the weights again costs more than it hides.
  std::vector<Wave> waves(bool covered) const {
    constexpr int64_t kFewest = 32;
    const int64_t count =
        covered ? 1 : std::clamp<int64_t>(tokens() / kFewest, 1, options().ranks.waves);
    std::vector<Wave> waves;
    for (int64_t w = 0; w < count; ++w) {
      const int64_t begin = tokens() * w / count;
      waves.push_back({begin, tokens() * (w + 1) / count - begin});
    }
    return waves;
  }

  at::Tensor experts(const model::Dispatched& sent) { return TensorLayer::experts(sent).wait(); }

  template <class Make>
  std::vector<comm::Pending> reduce(comm::MessageName::Part part, const std::vector<Wave>& waves,
                                    const Make& make) const {
    const model::ExpertRanks& ranks = options().ranks;
    std::vector<comm::Pending> sums;
    for (const Wave& wave : waves) {
      const at::Tensor x = make(wave);
      const auto number = static_cast<int64_t>(sums.size());
      sums.push_back(ranks.reducer->all_reduce(
          {.layer = index(), .part = part, .chunk = waves.size() > 1 ? number : -1}, x,
          ranks.wire.value_or(x.scalar_type())));
      if (ranks.execution == Execution::blocking) sums.back() = comm::Pending(sums.back().wait());
    }
    return sums;
  }
};

}  // namespace farskip::schedule
