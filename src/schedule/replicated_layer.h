// The player of the replicated layout's program that computes: the parts of a layer on this rank's
// slices, and the sums over the ranks.
#pragma once
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "comm/rank_sum.h"
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

  /// The same of a scattered input, which goes on with the tokens that the layer keeps: each rank
  /// makes the keys and values of its tokens, and all get them for their caches.
  template <class Stream>
  model::PreparedAttention attention_prepare(Stream& stream) {
    const model::ExpertRanks& ranks = options().ranks;
    std::vector<std::pair<Wave, comm::Pending>> waves;
    for (auto& part : stream.parts()) {
      const at::Tensor own = keys_of(attention_norm(stream.partial(part)), part.tokens);
      waves.emplace_back(Wave{part.begin, part.count},
                         ranks.launched(ranks.reducer->all_gather(
                             {.layer = index(),
                              .part = comm::MessageName::Part::keys,
                              .chunk = stream.parts().size() > 1 ? std::ssize(waves) : -1},
                             own.to(ranks.wire.value_or(own.scalar_type())))));
    }
    keep_rows(stream);
    model::PreparedAttention prepared;
    const at::Tensor kept = attention_norm(stream.partial());
    attention_queries(prepared, kept);
    for (auto& [wave, pending] : waves)
      model::keep_keys(pending.wait().narrow(0, 0, wave.count).to(kept.scalar_type()),
                       model().whole.layers.back().attention, model().share.tensor, attention(),
                       wave.begin);
    return prepared;
  }

  /// Whether it has experts, which work on all tokens.
  bool routes_all() const { return is_moe() && !routed_rows().defined(); }
  /// ExpertRanks::waves where experts run in waves: their many weights are what makes small
  /// products slow. Twice as many where they work on all tokens `together`, four times as many
  /// where there are none. Fewer of few tokens.
  std::vector<Wave> waves(bool together) const {
    const model::ExpertRanks& ranks = options().ranks;
    const int64_t most = ranks.waves;
    if (most == 1 || (routes_all() && !together))
      return split(tokens(), ranks.waves_of(tokens(), most));
    if (together) return split(tokens(), ranks.waves_of(tokens(), 2 * most));
    return many_waves();
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

  /// The sum of the routed experts' outputs, which travels under the next layer's attention.
  model::RoutedOutput reduce_experts(const model::Dispatched& sent) {
    if (layers_after() == 2 && ends_divided()) return scatter_experts(sent);
    std::vector<comm::Pending> sums;
    expert_columns(sent, message_bytes(sent.h), [&](const at::Tensor& columns, int64_t pieces) {
      sums.push_back(
          launched(comm::MessageName::Part::routed, pieces > 1 ? std::ssize(sums) : -1, columns));
    });
    return model::RoutedOutput(comm::joined(std::move(sums)));
  }

  template <class Make>
  std::vector<comm::Pending> reduce(comm::MessageName::Part part, const std::vector<Wave>& waves,
                                    const Make& make) const {
    std::vector<comm::Pending> sums;
    for (const Wave& wave : waves)
      sums.push_back(launched(part, waves.size() > 1 ? std::ssize(sums) : -1, make(wave)));
    return sums;
  }

  /// Whether all that is left to do after this layer is the last one's work on few tokens, for
  /// which it needs of the others what its cache keeps of them: less than what comes in.
  bool keys_follow() const { return layers_after() == 1 && ends_with_keys(); }
  /// Whether the tokens are divided from what comes in on: its routed part need not be known to all
  /// ranks either, if each has the whole shared experts for its tokens, or there are none.
  bool divides_tokens() const { return layers_after() == 1 && ends_divided(); }
  /// The whole sum of the shared experts, of the tokens that this rank goes on with; rows of others
  /// are zeros, which nobody reads.
  at::Tensor shared_of_own(const model::Dispatched& sent) {
    const at::Tensor own = end_tokens().select(0, group().rank());
    const at::Tensor h = sent.all.index_select(0, own);
    return at::zeros_like(sent.all).index_copy_(0, own, TensorLayer::shared(h, whole_shared()));
  }

  /// reduce() where keys_follow(): each rank gets the sums of some of a wave's tokens, and all
  /// those of the tokens asked for, which leave with the last wave.
  template <class Make>
  model::ResidualStream::Scattered reduce_scatter(comm::MessageName::Part part,
                                                  const std::vector<Wave>& waves,
                                                  const Make& make) const {
    const at::Tensor& rows = options().rows;
    at::Tensor asked;
    model::ResidualStream::Scattered sums;
    for (const Wave& wave : waves) {
      const at::Tensor x = make(wave), first = rows - wave.begin;
      if (!asked.defined()) asked = x.new_empty({rows.numel(), x.size(1)});
      const at::Tensor here = first.ge(0).logical_and(first.lt(wave.count)).nonzero().squeeze(1);
      asked.index_copy_(0, here, x.index_select(0, first.index_select(0, here)));
      const int64_t chunk = std::ssize(sums.parts);
      if (chunk + 1 == std::ssize(waves))
        sums.kept.emplace(launched(part, std::ssize(waves), asked));
      const at::Tensor tokens = divided(wave), all = tokens.flatten() - wave.begin;
      sums.parts.push_back({wave.begin, wave.count, tokens.select(0, group().rank()),
                            scattered(part, waves.size() > 1 ? chunk : -1,
                                      all.numel() == wave.count ? x : x.index_select(0, all))});
    }
    return sums;
  }

  template <class Make>
  model::ResidualStream::Near reduce_last(comm::MessageName::Part part,
                                          const std::vector<Wave>& waves, const Make& make) const {
    if (keys_follow()) return reduce_scatter(part, waves, make);
    return reduce(part, waves, make);
  }

 private:
  const comm::Group& group() const { return options().ranks.reducer->group(); }
  bool ends_with_keys() const {
    const at::Tensor& asked = options().rows;
    const model::AttentionConfig& all = model().whole.layers.back().attention;
    const bool makes_keys = all.kind == model::AttentionKind::mla ||
                            model().weights.layers.back().attention.all_kv.k.value.defined();
    if (!makes_keys || !asked.defined() || !options().cache || options().on_residual ||
        tokens() < options().ranks.wave_tokens)
      return false;
    return tokens() * (hidden() - all.cache_width()) > 2 * asked.numel() * hidden();
  }
  const model::MlpWeights& whole_shared() const {
    return model().weights.layers[model().config.depth() - 2].moe.whole_shared;
  }
  /// Not where a rank would work on more tokens asked for than on its part of all.
  bool ends_divided() const {
    const auto& moe = model().config.layers[model().config.depth() - 2].moe;
    return ends_with_keys() && options().connectivity.ends_partial() && moe &&
           (moe->shared_width == 0 || whole_shared().down.value.defined()) &&
           options().rows.numel() * group().size() <= tokens();
  }
  /// The waves of a layer whose experts work on few tokens.
  std::vector<Wave> many_waves() const {
    const model::ExpertRanks& ranks = options().ranks;
    const int64_t most = ranks.waves;
    return split(tokens(), most == 1 ? 1 : ranks.waves_of(2 * tokens(), 4 * most));
  }
  /// Which of a wave's tokens each rank goes on with, int64 [ranks, n]. The last token stands in
  /// where there are not as many for every rank.
  at::Tensor divided(const Wave& wave) const {
    const int64_t size = group().size(), each = (wave.count + size - 1) / size;
    const at::Tensor tokens = at::arange(each * size, options().rows.options());
    return (tokens.clamp_max(wave.count - 1) + wave.begin).view({size, each});
  }
  /// The same of all tokens, and those asked for, which every rank goes on with.
  at::Tensor end_tokens() const {
    std::vector<at::Tensor> tokens;
    for (const Wave& wave : many_waves()) tokens.push_back(divided(wave));
    tokens.push_back(options().rows.expand({group().size(), -1}));
    return at::cat(tokens, 1);
  }
  /// reduce_experts() before a layer that divides its tokens: of others, rows are zeros.
  model::RoutedOutput scatter_experts(const model::Dispatched& sent) {
    const at::Tensor tokens = end_tokens(), all = tokens.flatten();
    std::vector<comm::Pending> sums;
    expert_columns(sent, message_bytes(sent.h) / group().size(),
                   [&](const at::Tensor& columns, int64_t pieces) {
                     sums.push_back(scattered(comm::MessageName::Part::routed,
                                              pieces > 1 ? std::ssize(sums) : -1,
                                              columns.index_select(0, all)));
                   });
    return model::RoutedOutput(comm::finished(
        comm::joined(std::move(sums)),
        [own = tokens.select(0, group().rank()), n = this->tokens()](const at::Tensor& sum) {
          return sum.new_zeros({n, sum.size(1)}).index_copy_(0, own, sum);
        }));
  }
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
  /// Of x [ranks n, ...], of whose sum this rank gets its n rows.
  comm::Pending scattered(comm::MessageName::Part part, int64_t chunk, const at::Tensor& x) const {
    const model::ExpertRanks& ranks = options().ranks;
    return ranks.launched(ranks.reducer->reduce_scatter(
        {.layer = index(), .part = part, .chunk = chunk}, x, ranks.wire.value_or(x.scalar_type())));
  }
};

}  // namespace farskip::schedule
