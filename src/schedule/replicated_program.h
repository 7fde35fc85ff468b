// The order in which the parts of a layer run where every rank has all tokens and a part of every
// matrix, written once for every player.
#pragma once
#include <utility>
#include <vector>

#include "comm/message_log.h"
#include "model/connectivity.h"

namespace farskip::schedule {

/// One layer in the layout of replicated tokens: outputs of attention and MLPs are parts of sums
/// over the ranks. For farskip, two messages a layer (arXiv 2511.11505, section 5): attention's and
/// the shared experts' outputs in one, which runs under the routed experts, and the routed experts'
/// output, which runs under the next layer's attention. `partial_next`: the next layer reads the
/// stream without the latter. A dense layer's outputs travel as one, and a regular layer's MLP sums
/// as one.
///
/// Messages are split by tokens into waves, so that one wave travels while the next is computed:
/// all that the dependencies of regular and dense layers allow, and an earlier beginning elsewhere.
///
/// Layer offers what it offers to run_layer(), but for: attention_prepare(parts, x) with x(wave),
/// which comes in so many parts, Ahead {none, half, all}, attend(prepared, waves, ahead) -> what
/// gives of(wave), computed then or, if ahead, now, experts(sent) -> this rank's part of the
/// sum, shared(sent, wave) of the wave's tokens alone, waves() -> parts of the tokens,
/// routes_all() -> whether experts work on all tokens, reduce(name, waves, make) -> pending sums of
/// what make(wave) gives, each launched as soon as it is made, reduce_last(name, waves, make) ->
/// the same of what the next layer's attention reads last, scattered where that is enough for it,
/// and attention_prepare(stream) of a scattered stream, reduce_experts(sent) -> the pending sum of
/// what experts(sent) gives, divides_tokens() -> whether shared_of_own(sent) gives their whole sum
/// of this rank's tokens, with which alone it goes on. A wave offers begin, count and of(x), its
/// rows.
template <class Layer, class Stream>
void run_replicated_layer(Layer& layer, model::LayerConnectivity reads, bool partial_next,
                          Stream& stream) {
  using enum comm::MessageName::Part;
  const auto prepare = [&] {
    if (stream.scattered()) return layer.attention_prepare(stream);
    auto whole = layer.attention_prepare(stream.near_parts(), [&](const auto& wave) {
      return reads.attention_partial ? stream.partial(wave.begin, wave.count)
                                     : stream.full(wave.begin, wave.count);
    });
    layer.keep_rows(stream);
    return whole;
  };
  auto prepared = prepare();
  if (layer.idle()) return;
  const bool outdated = reads.mlp_outdated, has_shared = layer.is_moe() && layer.has_shared();
  const bool covered = outdated && partial_next && layer.is_moe();
  const bool by_experts = covered && layer.routes_all();
  const auto waves = layer.waves(/*together=*/by_experts);
  // An outdated MLP waits for what the layer before has left on its way, under attention: half of
  // it where the other half is needed under its own message.
  using Ahead = typename Layer::Ahead;
  auto a = layer.attend(std::move(prepared), waves,
                        by_experts && has_shared ? Ahead::all
                        : outdated               ? Ahead::half
                                                 : Ahead::none);
  const auto x = [&](const auto& wave) { return stream.full(wave.begin, wave.count); };
  const auto of_attention = [&](const auto& wave) { return a.of(wave); };
  const auto with_attention = [&](const auto& wave, const auto& mlp) {
    const auto attended = a.of(wave);  // before the MLP
    return attended + mlp();
  };

  if (covered) {
    // If nothing is to be added to it, attention's message leaves before anything is waited for.
    const bool alone = !has_shared || layer.divides_tokens();
    auto near = alone ? layer.reduce_last(attention, waves, of_attention)
                      : decltype(layer.reduce_last(attention, waves, of_attention)){};
    const auto sent = layer.dispatch(stream.full());
    if (!alone)
      near = layer.reduce_last(merged, waves, [&](const auto& wave) {
        return with_attention(wave, [&] { return layer.shared(sent, wave); });
      });
    else if (has_shared)
      stream.add(layer.shared_of_own(sent));
    stream.add_near(std::move(near), /*together=*/by_experts);
    return stream.add_routed(layer.reduce_experts(sent), layer.routed_rows());
  }

  if (!outdated) stream.add_near(layer.reduce(attention, waves, of_attention));
  if (!layer.is_moe()) {
    const auto dense = [&](const auto& wave) { return layer.dense(x(wave)); };
    stream.add_near(layer.reduce_last(outdated ? merged : mlp, waves, [&](const auto& wave) {
      return outdated ? with_attention(wave, [&] { return dense(wave); }) : dense(wave);
    }));
    return;
  }

  std::vector<decltype(layer.dispatch(stream.full()))> sent;
  const auto send = [&](const auto& wave) -> const auto& {
    return sent.emplace_back(layer.dispatch(x(wave)));
  };
  if (outdated && has_shared) {
    stream.add_near(layer.reduce(merged, waves, [&](const auto& wave) {
      return with_attention(wave, [&] { return layer.shared(send(wave)); });
    }));
  } else if (outdated) {
    auto near = layer.reduce(attention, waves, of_attention);  // before anything is waited for
    for (const auto& wave : waves) send(wave);
    stream.add_near(std::move(near));
  } else if (partial_next && has_shared) {
    stream.add_near(
        layer.reduce(shared, waves, [&](const auto& wave) { return layer.shared(send(wave)); }));
  }
  const bool dispatched = !sent.empty();
  size_t next = 0;
  const auto of_experts = [&](const auto& wave) {
    const auto& tokens = dispatched ? sent[next++] : send(wave);
    const auto r = layer.experts(tokens);
    return has_shared && !dispatched ? r + layer.shared(tokens) : r;
  };
  if (partial_next)
    stream.add_routed(layer.reduce(routed, waves, of_experts));
  else  // nobody reads the stream without them
    stream.add_near(layer.reduce_last(routed, waves, of_experts));
}

}  // namespace farskip::schedule
