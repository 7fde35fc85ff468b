// The pre_tokenizer of a tokenizer file: cuts text into words, between which BPE never merges.
#pragma once
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_file.h"
#include "io/regex.h"

namespace farskip::io {

/// Words of a text. They are views of the text or of `owned`, which a deque never moves.
struct Words {
  std::vector<std::string_view> views;
  std::deque<std::string> owned;
};

/// Immutable; any number of threads may use it.
class PreTokenizer {
 public:
  /// Split (a regular expression or text, isolated), Digits and, as the last step, ByteLevel.
  /// InputError naming anything else.
  static PreTokenizer parse(const Fields& json);

  /// The words of valid UTF-8, in order and without gaps; their bytes are the input of BPE.
  Words split(std::string_view text) const;

 private:
  struct Step {
    bool add_prefix_space;   ///< put a space before each part that doesn't start with one
    std::vector<Regex> cut;  ///< at most one: where to cut
  };
  void add(const Fields& json);
  static Step split_step(const Fields& json);
  static Step byte_level_step(const Fields& json);

  std::vector<Step> steps_;
  bool byte_level_ = false;  ///< the last step was added
};

}  // namespace farskip::io
