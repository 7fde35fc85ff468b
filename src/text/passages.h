// A conversation as passages of text to learn from.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "text/chat_template.h"

namespace farskip::text {

struct Passage {
  std::string text;
  std::vector<std::pair<size_t, size_t>> learnt;  ///< byte ranges, in order
};

/// ChatTemplate::render, or what stands in for it in tests.
using Render = std::function<Rendered(const Conversation&)>;

/// Every message j with `learn[j]` as the model would have written it: its own rendering as the
/// last message, behind the rendering of those before it with their generation prompt; the end mark
/// that follows it is learnt too. With `marked`, what {% generation %} blocks wrote of it is learnt
/// instead. A message whose rendering begins with the passage before makes that passage longer, so
/// that a template that only appends gives one passage; one that rewrites earlier messages (their
/// thoughts are dropped) gives a passage for each message whose past is another. Messages behind
/// the last learnt one are not rendered.
///
/// Two kinds of templates don't give what the model would write: where thoughts (up to </think>)
/// are cut even out of the last message, they are put back; where the rendering does not begin with
/// the generation prompt, it is learnt from where its content begins, or the two part.
///
/// `conversation` has whatever its messages need; add_generation_prompt is ignored.
/// InputError as the template throws it.
std::vector<Passage> passages(const Render& render, bool marked, const Conversation& conversation,
                              const std::vector<bool>& learn);

}  // namespace farskip::text
