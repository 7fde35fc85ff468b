#include "text/text_output.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::text {

TextOutput::TextOutput(const Tokenizer& tokenizer, TextOutputOptions options)
    : with_text_(tokenizer.vocabulary_size()),
      stream_(tokenizer, options.skip_special_tokens),
      options_(std::move(options)) {
  for (const std::string& stop : options_.stops) {
    util::require(!stop.empty(), "stop", "an empty text", "at least one character");
    if (const auto token = tokenizer.id_of(stop); token && tokenizer.is_special(*token))
      special_stops_.emplace_back(*token, stop);
  }
}

std::string TextOutput::push(int64_t token) {
  for (const auto& [id, stop] : special_stops_) {
    if (id != token) continue;
    std::string piece = finish();
    if (options_.include_stop && !stopped_) text_ += stop;
    stopped_ = true;
    return piece + given_until(text_.size());
  }
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
  size_t first = std::string::npos, end = 0;
  for (const std::string& stop : options_.stops) {
    const size_t from = before >= stop.size() ? before - stop.size() + 1 : 0;
    if (const size_t at = text_.find(stop, from); at < first) {
      first = at;
      end = options_.include_stop ? at + stop.size() : at;
    }
  }
  stopped_ = first != std::string::npos;
  if (stopped_) {
    text_.resize(end);
    return given_until(end);
  }
  end = text_.size();
  for (const std::string& stop : options_.stops)
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
