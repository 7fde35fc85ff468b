// The codec of training data of a model's own tokenizer and chat template.
#pragma once
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "model/config.h"
#include "text/tokenizer.h"
#include "text/training_row.h"
#include "train/samples.h"

namespace farskip::text {

/// Encodes stretches of text as a model sees them: what it is to write is encoded for itself, as
/// its tokens come when it generates them, and not together with what stands before.
class StretchEncoder {
 public:
  explicit StretchEncoder(Tokenizer tokenizer);

  /// With the tokens that the tokenizer's class sets in front; those that it sets behind (an end)
  /// are left to whoever knows where the document ends.
  std::vector<int64_t> begin(std::string_view text) const;
  /// Text that follows other text: no space is put in front, where the tokenizer does so.
  std::vector<int64_t> go_on(std::string_view text) const;
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Tokenizer tokenizer_;
  std::vector<int64_t> front_;
  bool adds_space_ = false;  ///< in front of a text (SentencePiece)
};

/// Reads tokenizer and chat template of a folder. A document's end is the first end token of
/// `config` (none where only the tokenizer is known), else the tokenizer's own. `ignored` are keys
/// of rows that are taken as if they weren't there. InputError if there is no tokenizer; the
/// codec's own for a text with a token that the model does not have.
train::TextCodec open_codec(const std::filesystem::path& directory,
                            const model::ModelConfig* config,
                            const std::set<std::string>& ignored = {});

}  // namespace farskip::text
