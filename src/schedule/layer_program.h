// The order in which the parts of a layer run, written once for every player: the one that computes
// tensors, and those that count, price or trace.
#pragma once
#include <optional>
#include <utility>

#include "model/connectivity.h"

namespace farskip::schedule {

/// One layer in the training layout (attention data-parallel, experts behind an all-to-all; with
/// one rank nothing is on the wire). For farskip this is the schedule of arXiv 2511.11505: the
/// dispatch runs under attention's core, the combine under the shared experts and the next layer's
/// attention preparation; or, where that fits the messages better, the shared experts run under the
/// dispatch, and attention's core under the combine or, if it can be divided, in any wait.
/// Regular layers get the overlap that their dependencies allow.
///
/// Layer offers: is_moe(), has_shared(), attends_late(), attention_prepare(x), keep_rows(stream),
/// idle(), attend(prepared), begin_attend(prepared) -> begun, end_attend(begun), dense(x),
/// dispatch(x) -> sent (launched), begin_dispatch(stream) -> begun (what of the stream is there),
/// end_dispatch(begun, stream, begun attention) -> sent (all of it; attends while it waits for the
/// stream), experts(sent) and experts(sent, &begun attention) -> pending (wave by wave: waits for
/// the dispatch, and attends meanwhile; computes, launches the combine), shared(sent),
/// routed_rows() (see ResidualStream::add_routed). Stream offers what model::ResidualStream does.
template <class Layer, class Stream>
void run_layer(Layer& layer, model::LayerConnectivity reads, Stream& stream) {
  const bool late = layer.is_moe() && reads.mlp_outdated && layer.attends_late();
  auto begun = late ? std::optional(layer.begin_dispatch(stream)) : std::nullopt;
  auto prepared =
      layer.attention_prepare(reads.attention_partial ? stream.partial() : stream.full());
  layer.keep_rows(stream);
  if (layer.idle()) return;

  if (!layer.is_moe()) {
    if (reads.mlp_outdated) {
      auto outdated = stream.full();
      stream.add(layer.attend(std::move(prepared)));
      stream.add(layer.dense(outdated));
    } else {
      stream.add(layer.attend(std::move(prepared)));
      stream.add(layer.dense(stream.full()));
    }
    return;
  }

  const auto finish = [&](auto sent) {
    stream.add_routed(layer.experts(sent), layer.routed_rows());
    if (layer.has_shared()) stream.add_shared(layer.shared(sent));
  };
  if (late) {
    auto attention = layer.begin_attend(std::move(prepared));
    auto sent = layer.end_dispatch(std::move(*begun), stream, attention);
    auto shared = layer.has_shared() ? layer.shared(sent) : decltype(layer.shared(sent)){};
    auto routed = layer.experts(sent, &attention);
    stream.add(layer.end_attend(std::move(attention)));
    stream.add_routed(std::move(routed), layer.routed_rows());
    if (layer.has_shared()) stream.add_shared(std::move(shared));
  } else if (reads.mlp_outdated) {
    auto sent = layer.dispatch(stream.full());
    stream.add(layer.attend(std::move(prepared)));
    finish(std::move(sent));
  } else {
    stream.add(layer.attend(std::move(prepared)));
    finish(layer.dispatch(stream.full()));
  }
}

}  // namespace farskip::schedule
