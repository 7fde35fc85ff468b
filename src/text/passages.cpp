#include "text/passages.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json;

constexpr const char* kEndOfThoughts = "</think>";
constexpr const char* kPlaceholder = "farskip-content-4f1c";

/// How many bytes two texts begin with in common; whole characters.
size_t common_begin(const std::string& a, const std::string& b) {
  const auto [in_a, in_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  size_t count = in_a - a.begin();
  while (count > 0 && count < a.size() && (static_cast<unsigned char>(a[count]) & 0xC0) == 0x80)
    --count;
  return count;
}

class Turns {
 public:
  Turns(const Render& render, const Conversation& conversation)
      : render_(render), conversation_(conversation) {}

  /// The text up to the end of message j, of which what follows `begin` is learnt.
  Passage written(size_t j) const {
    const Json& message = conversation_.messages[j];
    const std::string prompt = until(j, true).text, whole = until(j + 1, false).text;
    const std::string content = text_of(message);
    const size_t thought = content.find(kEndOfThoughts);
    const size_t shared = common_begin(prompt, whole);
    const bool cut =
        thought != std::string::npos && whole.find(kEndOfThoughts, shared) == std::string::npos;
    if (!cut && whole.starts_with(prompt)) return from(prompt.size(), whole);

    Json probe = message;
    probe["content"] = kPlaceholder;
    const std::string probed = until(j, false, &probe).text;
    const size_t place = probed.find(kPlaceholder);
    if (place == std::string::npos) return from(shared, whole);
    if (!cut) return from(std::min(shared, place), whole);
    const std::string tail = probed.substr(place + std::string(kPlaceholder).size());
    const std::string restored = probed.substr(0, place) + content + tail;
    if (restored.starts_with(prompt)) return from(prompt.size(), restored);
    // The generation prompt has opened the thoughts already.
    if (content.find("<think>") == std::string::npos)
      return from(prompt.size(), prompt + content + tail);
    return from(std::min(common_begin(prompt, restored), place), restored);
  }

  /// The same by what the template marks.
  Passage marked(size_t j) const {
    const std::string before = j == 0 ? "" : until(j, false).text;
    const Rendered whole = until(j + 1, false);
    const size_t own = common_begin(before, whole.text);
    Passage passage{whole.text, {}};
    for (const auto& [begin, end] : whole.generated)
      if (end > own) passage.learnt.emplace_back(std::max(begin, own), end);
    return passage;
  }

 private:
  /// The first messages, and one more behind them.
  Rendered until(size_t count, bool prompt, const Json* more = nullptr) const {
    Conversation part = conversation_;
    part.messages = Json::array();
    for (size_t i = 0; i < count; ++i) part.messages.push_back(conversation_.messages[i]);
    if (more) part.messages.push_back(*more);
    part.add_generation_prompt = prompt;
    if (!part.messages.empty()) return render_(part);
    // Many templates look at the first message; without it, nothing but the prompt can be lost.
    try {
      return render_(part);
    } catch (const InputError&) {
      return {};
    }
  }

  static Passage from(size_t begin, std::string text) {
    const size_t end = text.size();
    return {std::move(text), {{begin, end}}};
  }

  static std::string text_of(const Json& message) {
    const auto content = message.find("content");
    return content != message.end() && content->is_string() ? content->get<std::string>() : "";
  }

  const Render& render_;
  const Conversation& conversation_;
};

}  // namespace

std::vector<Passage> passages(const Render& render, bool marked, const Conversation& conversation,
                              const std::vector<bool>& learn) {
  const Turns turns(render, conversation);
  std::vector<Passage> found;
  for (size_t j = 0; j < learn.size(); ++j) {
    if (!learn[j]) continue;
    Passage next = marked ? turns.marked(j) : turns.written(j);
    std::erase_if(next.learnt, [](const auto& range) { return range.first == range.second; });
    if (next.learnt.empty()) continue;
    if (!found.empty() && next.text.starts_with(found.back().text) &&
        next.learnt.front().first >= found.back().text.size()) {
      Passage& last = found.back();
      last.text = std::move(next.text);
      last.learnt.insert(last.learnt.end(), next.learnt.begin(), next.learnt.end());
    } else {
      found.push_back(std::move(next));
    }
  }
  return found;
}

}  // namespace farskip::text
