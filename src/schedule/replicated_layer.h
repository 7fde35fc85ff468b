// The player of the replicated layout's program that computes: the parts of a layer on this rank's
// slices, and the sums over the ranks.
#pragma once
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

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

  /// x(wave) comes in so many parts, which are projected one after the other, while the next
  /// travel.
  template <class Input>
  model::PreparedAttention attention_prepare(int64_t parts, const Input& x) {
    const int64_t tokens = attention().batch.size();
    if (parts <= 1) return TensorLayer::attention_prepare(x(Wave{0, tokens}));
    std::vector<model::PreparedAttention> prepared;
    std::vector<at::Tensor> inputs;
    for (const Wave& wave : split(tokens, parts)) {
      inputs.push_back(attention_norm(x(wave)));
      prepared.push_back(attention_keys(inputs.back(), wave.begin));
      if (!attention().queries) attention_queries(prepared.back(), inputs.back(), wave.begin);
    }
    auto whole = model::joined(prepared);
    if (attention().queries)
      attention_queries(whole, at::cat(inputs).index_select(0, attention().queries->rows));
    return whole;
  }

  /// Whether it has experts, which work on all tokens.
  bool routes_all() const { return is_moe() && !routed_rows().defined(); }
  /// ExpertRanks::waves, or four times as many where no experts run in waves: their many weights
  /// are what makes small products slow. Fewer of few tokens.
  std::vector<Wave> waves() const {
    const model::ExpertRanks& ranks = options().ranks;
    if (ranks.waves == 1 || routes_all())
      return split(tokens(), ranks.waves_of(tokens(), ranks.waves));
    return split(tokens(), ranks.waves_of(2 * tokens(), 4 * ranks.waves));
  }

  /// What attention gives, wave by wave in their order, computed when it is asked for.
  class Attended {
   public:
    at::Tensor of(const Wave& wave) {
      return next_ < ahead_.size() ? std::move(ahead_[next_++]) : compute_(wave);
    }

   private:
    friend class ReplicatedLayer;
    std::function<at::Tensor(const Wave&)> compute_;
    std::vector<at::Tensor> ahead_;  ///< of the first waves
    size_t next_ = 0;
  };
  enum class Ahead { none, half, all };
  /// `ahead`: the waves that are computed here and now.
  Attended attend(model::PreparedAttention prepared, const std::vector<Wave>& waves, Ahead ahead) {
    Attended a;
    if (drops_rows() || ahead == Ahead::all) {
      a.compute_ = [y = TensorLayer::attend(std::move(prepared))](const Wave& wave) {
        return wave.of(y);
      };
      return a;
    }
    a.compute_ = [this, core = attention_core(std::move(prepared))](const Wave& wave) mutable {
      return TensorLayer::attend(core, wave.begin, wave.count);
    };
    for (size_t w = 0; ahead == Ahead::half && w < (waves.size() + 1) / 2; ++w)
      a.ahead_.push_back(a.compute_(waves[w]));
    return a;
  }

  using TensorLayer::shared;
  at::Tensor shared(const model::Dispatched& sent, const Wave& wave) {
    return TensorLayer::shared(wave.of(sent.all));
  }
  at::Tensor experts(const model::Dispatched& sent) { return TensorLayer::experts(sent).wait(); }

  /// The sum of the routed experts' outputs, which travels under the next layer's attention. A long
  /// one in pieces of some columns: the first travel while the experts compute the next, at no cost
  /// to their products, which have all the tokens, and little is left when attention begins.
  model::RoutedOutput reduce_experts(const model::Dispatched& sent) {
    constexpr int64_t kMost = 8, kLeastBytes = 64 << 10;
    const auto element = c10::elementSize(options().ranks.wire.value_or(sent.h.scalar_type()));
    const int64_t bytes = sent.h.numel() * static_cast<int64_t>(element);
    const int64_t pieces = sent.plan ? std::clamp<int64_t>(bytes / kLeastBytes, 1, kMost) : 1;
    if (pieces == 1) {
      std::vector<comm::Pending> whole;
      whole.push_back(launched(comm::MessageName::Part::routed, -1, experts(sent)));
      return whole;
    }
    const at::Tensor inner = experts_inner(sent);
    std::vector<comm::Pending> sums;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t begin = hidden() * piece / pieces, end = hidden() * (piece + 1) / pieces;
      sums.push_back(launched(comm::MessageName::Part::routed, piece,
                              expert_columns(sent, inner, begin, end - begin)));
    }
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
  static std::vector<Wave> split(int64_t tokens, int64_t count) {
    std::vector<Wave> waves;
    for (int64_t w = 0; w < count; ++w) {
      const int64_t begin = tokens * w / count;
      waves.push_back({begin, tokens * (w + 1) / count - begin});
    }
    return waves;
  }
  comm::Pending launched(comm::MessageName::Part part, int64_t chunk, const at::Tensor& x) const {
    const model::ExpertRanks& ranks = options().ranks;
    return ranks.launched(ranks.reducer->all_reduce(
        {.layer = index(), .part = part, .chunk = chunk}, x, ranks.wire.value_or(x.scalar_type())));
  }
};

}  // namespace farskip::schedule
