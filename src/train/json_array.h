// A JSON array as JSON lines.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace farskip::train {

/// Cuts a JSON array into its elements, each a line, without holding more than a stretch of it.
/// What the elements are worth is for the reader of the lines to say.
class ArraySplitter {
 public:
  /// `name` stands in messages.
  ArraySplitter(std::string name, std::function<void(std::string_view lines)> write)
      : name_(std::move(name)), write_(std::move(write)) {}

  /// InputError where a comma or bracket is missing.
  void push(std::string_view bytes);
  /// InputError unless the array was closed.
  void finish();

 private:
  enum class At { start, before_first, before_next, inside, done };

  void take(char c);
  [[noreturn]] void refuse(const std::string& found) const;

  std::string name_;
  std::function<void(std::string_view)> write_;
  At at_ = At::start;
  int64_t row_ = 1;
  int64_t depth_ = 0;  ///< brackets of the element that are open
  bool in_string_ = false, escaped_ = false;
  std::string lines_;
};

}  // namespace farskip::train
