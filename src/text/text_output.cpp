#include "text/text_output.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::text {

TextOutput::TextOutput(const Tokenizer& tokenizer, std::vector<std::string> stops,
                       bool skip_special_tokens)
    : with_text_(tokenizer.vocabulary_size()),
      stream_(tokenizer, skip_special_tokens),
      stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    util::require(!stop.empty(), "stop", "an empty text", "at least one character");
}

std::string TextOutput::push(int64_t token) {
  return append(token < with_text_ ? stream_.push(token) : "");
}

std::string TextOutput::finish() {
  if (stopped_) return {};
  std::string rest = append(stream_.finish());
  return rest + given_until(text_.size());
}

std::string TextOutput::append(const std::string& piece) {
  // A stop string that the new text completes may begin in what was there.
  const size_t before = text_.size();
  text_ += piece;
  size_t end = text_.size();
  for (const std::string& stop : stops_) {
    const size_t from = before >= stop.size() ? before - stop.size() + 1 : 0;
    if (const auto at = text_.find(stop, from); at != std::string::npos) {
      end = std::min(end, at);
      stopped_ = true;
    }
  }
  if (stopped_) {
    text_.resize(end);
    return given_until(end);
  }
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, text_.size()); n > 0; --n)
      if (text_.ends_with(std::string_view(stop).substr(0, n))) {
        end = std::min(end, text_.size() - n);
        break;
      }
  return given_until(end);
}

std::string TextOutput::given_until(size_t end) {
  if (end <= given_) return {};
  std::string piece = text_.substr(given_, end - given_);
  given_ = end;
  return piece;
}

}  // namespace farskip::text
