// From bytes of training files to tokens, and which of them are learnt.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_fields.h"
#include "train/pieces.h"

namespace farskip::train {

/// Tokens of a document, or of several that follow one another.
struct Sample {
  std::vector<int64_t> ids;
  std::vector<bool> learn;  ///< whether predicting this token counts

  void add(const std::vector<int64_t>& tokens, bool learnt);
  void add(const Sample& next);
  /// How many tokens are learnt.
  int64_t learnt() const;
};

/// What turns text into tokens (text::open_codec makes the one of a model's own tokenizer).
struct TextCodec {
  /// Tokens of a text; with `begins_document` those that the tokenizer sets in front too.
  std::function<std::vector<int64_t>(std::string_view text, bool begins_document)> encode;
  std::optional<int64_t> end_of_text;  ///< set behind every document of plain text; none: nothing
  /// The documents of a row of JSON, each with its end; none where nothing can be learnt of it.
  /// InputError "KEY: found X, expected Y" for a row that can't be read.
  std::function<std::vector<Sample>(const io::Json& row)> row;
  /// The bytes that a token stands for, to show it.
  std::function<std::string_view(int64_t id)> bytes_of;
};

/// A document of a piece (of a text file, the part of it that stands in the piece), and the byte of
/// the piece at which it begins.
using EachDocument = std::function<void(const Sample& document, int64_t offset)>;

/// The documents of a piece in order. Text files: one file is one document; all of it is learnt but
/// the first token of a piece that starts inside it (its predecessor stands elsewhere); lines end
/// with "\n", however the file ends them. JSON lines: a line is a row; blank lines are skipped, a
/// row of which nothing can be learnt is an empty document.
/// InputError, naming file and line, for what is no JSON object, what `codec.row` refuses, invalid
/// UTF-8 and zero bytes.
void read_documents(const Pieces& pieces, int64_t index, const TextCodec& codec,
                    const EachDocument& each);

/// All of them, one after the other.
Sample read_piece(const Pieces& pieces, int64_t index, const TextCodec& codec);

}  // namespace farskip::train
