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

  /// All tokens in one, if the layer's messages are covered by experts that work on all tokens.
  /// Else as many as ExpertRanks::waves, if
  /// none gets so few tokens that reading the weights again costs more than it hides.
  std::vector<Wave> waves(bool covered) const {
    constexpr int64_t kFewest = 32;
    const int64_t count = covered && !routed_rows().defined()
                              ? 1
                              : std::clamp<int64_t>(tokens() / kFewest, 1, options().ranks.waves);
    std::vector<Wave> waves;
    for (int64_t w = 0; w < count; ++w) {
      const int64_t begin = tokens() * w / count;
      waves.push_back({begin, tokens() * (w + 1) / count - begin});
    }
    return waves;
  }

  using TensorLayer::shared;
  at::Tensor shared(const model::Dispatched& sent, const Wave& wave) {
    return TensorLayer::shared(wave.of(sent.all));
  }
  at::Tensor experts(const model::Dispatched& sent) { return TensorLayer::experts(sent).wait(); }

  /// The sum of the routed experts' outputs, which travels under the next layer's attention. A long
  /// one in halves of its columns: the first travels while the experts compute the second, at no
  /// cost to their products, which have all the tokens.
  model::RoutedOutput reduce_experts(const model::Dispatched& sent) {
    constexpr int64_t kLeastBytes = 128 << 10;  // of a half
    const auto element = c10::elementSize(options().ranks.wire.value_or(sent.h.scalar_type()));
    const bool halves =
        sent.plan && sent.h.numel() * static_cast<int64_t>(element) >= 2 * kLeastBytes;
    if (!halves) {
      std::vector<comm::Pending> whole;
      whole.push_back(launched(comm::MessageName::Part::routed, -1, experts(sent)));
      return whole;
    }
    const at::Tensor inner = experts_inner(sent);
    const int64_t middle = hidden() / 2;
    std::vector<comm::Pending> sums;
    for (const auto& [begin, count] : {std::pair{int64_t{0}, middle}, {middle, hidden() - middle}})
      sums.push_back(launched(comm::MessageName::Part::routed, begin > 0,
                              expert_columns(sent, inner, begin, count)));
    return {std::move(sums), /*dimension=*/1};
  }

  template <class Make>
  std::vector<comm::Pending> reduce(comm::MessageName::Part part, const std::vector<Wave>& waves,
                                    const Make& make) const {
    std::vector<comm::Pending> sums;
    for (const Wave& wave : waves)
      sums.push_back(launched(part, waves.size() > 1 ? std::ssize(sums) : -1, make(wave)));
    return sums;
  }

 private:
  comm::Pending launched(comm::MessageName::Part part, int64_t chunk, const at::Tensor& x) const {
    const model::ExpertRanks& ranks = options().ranks;
    comm::Pending sum = ranks.reducer->all_reduce({.layer = index(), .part = part, .chunk = chunk},
                                                  x, ranks.wire.value_or(x.scalar_type()));
    return ranks.execution == Execution::blocking ? comm::Pending(sum.wait()) : std::move(sum);
  }
};

}  // namespace farskip::schedule
