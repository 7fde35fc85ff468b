#include "measure/windows.h"

#include <algorithm>
#include <chrono>
#include <map>

namespace farskip::measure {
namespace {

using Message = comm::MessageName::Part;
using schedule::Part;

/// Seconds of a layer's parts, and of its messages, of which each may have come in several.
struct Layer {
  double attention = 0, experts = 0, not_routed = 0;
  double merged = 0, routed = 0;
  double there_and_back = 0;  ///< of own tokens
};

}  // namespace

Windows windows(const std::vector<MessageFigures>& messages,
                const std::vector<schedule::PartSpan>& parts) {
  std::map<int64_t, Layer> layers;
  for (const schedule::PartSpan& span : parts) {
    const double time = std::chrono::duration<double>(span.end - span.begin).count();
    Layer& layer = layers[span.layer];
    if (span.part == Part::attention_prepare || span.part == Part::attend) layer.attention += time;
    if (span.part == Part::experts) layer.experts += time;
    if (span.part != Part::experts && span.part != Part::route && span.part != Part::combine)
      layer.not_routed += time;
  }
  Windows found;
  const auto add = [&](double sent, double window) {
    found.communication += sent;
    found.exposed += std::max(0.0, sent - window);
  };
  for (const MessageFigures& message : messages) {
    const int64_t layer = message.name.layer;
    switch (message.name.part) {
      case Message::dispatch:
      case Message::combine:
      case Message::gather:
      case Message::scatter:
        layers[layer].there_and_back += message.communication;
        break;
      case Message::merged:
        layers[layer].merged += message.communication;
        break;
      case Message::routed:
        layers[layer].routed += message.communication;
        break;
      default:
        add(message.communication, 0);
    }
  }
  for (const auto& [index, layer] : layers) {
    add(layer.there_and_back, layer.not_routed);
    add(layer.merged, layer.experts);
    const auto next = layers.find(index + 1);
    add(layer.routed, next == layers.end() ? 0 : next->second.attention);
  }
  return found;
}

Windows windows(const std::vector<TokenResult>& variants) {
  const TokenResult& blocking = find(variants, {.converted = true});
  std::vector<MessageFigures> messages = blocking.rounds.front().messages;
  for (size_t i = 0; i < messages.size(); ++i)
    messages[i].communication = over_rounds(blocking, [&](const TokenFigures& f) {
                                  return f.messages.at(i).communication;
                                }).median;
  return windows(messages, find(variants, bound_of({.converted = true})).timeline.parts);
}

}  // namespace farskip::measure
