#include "train/json_array.h"

#include "util/error.h"

namespace farskip::train {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

void ArraySplitter::push(std::string_view bytes) {
  for (const char c : bytes) take(c);
  write_(lines_);
  lines_.clear();
}

void ArraySplitter::finish() {
  if (at_ != At::done) refuse("the end of the file");
}

void ArraySplitter::take(char c) {
  if (at_ == At::inside) {
    if (in_string_) {
      // A line's end inside a string is no JSON; another control character keeps the line whole
      // and is refused where it is read.
      lines_ += c == '\n' ? '\x01' : c;
      if (!escaped_ && c == '"') in_string_ = false;
      escaped_ = !escaped_ && c == '\\';
      return;
    }
    if (depth_ == 0 && (c == ',' || c == ']')) {
      lines_ += '\n';
      ++row_;
      at_ = c == ',' ? At::before_next : At::done;
      return;
    }
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if (c == '}' || c == ']') --depth_;
    lines_ += is_space(c) ? ' ' : c;
    return;
  }
  if (is_space(c)) return;
  if (at_ == At::start && c == '[') {
    at_ = At::before_first;
  } else if (at_ == At::before_first && c == ']') {
    at_ = At::done;
  } else if ((at_ == At::before_first || at_ == At::before_next) && c != ',' && c != ']') {
    at_ = At::inside;
    take(c);
  } else {
    refuse(std::string("\"") + c + "\"");
  }
}

void ArraySplitter::refuse(const std::string& found) const {
  throw InputError(util::concat(name_, ": row ", row_, ": found ", found,
                                at_ == At::done ? " after the list" : "",
                                ", expected one JSON list of objects"));
}

}  // namespace farskip::train
