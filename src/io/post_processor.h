// The post_processor of a tokenizer file: which special tokens stand around a text.
#pragma once
#include <cstdint>
#include <vector>

#include "io/json_file.h"

namespace farskip::io {

/// Immutable; any number of threads may use it.
class PostProcessor {
 public:
  /// ByteLevel (which moves no token), TemplateProcessing and Sequence of them; InputError naming
  /// anything else, or an id outside the vocabulary.
  static PostProcessor parse(const Fields& json, int64_t vocabulary_size);

  /// The ids of one text with the special tokens around them.
  std::vector<int64_t> add_special_tokens(std::vector<int64_t> ids) const;

 private:
  void add(const Fields& json, int64_t vocabulary_size);
  void add_template(const Fields& json, int64_t vocabulary_size);

  /// Text as often as the template names it, and the ids before each and after the last.
  struct Template {
    std::vector<std::vector<int64_t>> around{1};
  };
  std::vector<Template> templates_;
};

}  // namespace farskip::io
