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

struct Sample {
  std::vector<int64_t> ids;
  std::vector<bool> learn;  ///< whether predicting this token counts

  void add(const std::vector<int64_t>& tokens, bool learnt);
};

/// One turn of a conversation as the model's chat template writes it.
struct Turn {
  std::string text;
  bool learn = false;  ///< an assistant's words, its end mark included
};

/// What turns text into tokens.
struct TextCodec {
  /// Tokens of a text; with `begins_document` those that the tokenizer sets in front too.
  std::function<std::vector<int64_t>(std::string_view text, bool begins_document)> encode;
  std::optional<int64_t> end_of_text;  ///< set behind every document; none: nothing is
  /// The turns of `messages`; empty where the model has no chat template.
  std::function<std::vector<Turn>(const io::Json& messages)> chat;
};

/// The tokens of a piece, documents one after the other, each ended by end_of_text.
/// Text files: one file is one document; all of it is learnt but the first token of a piece that
/// starts inside it (its predecessor stands elsewhere).
/// .jsonl: a line is a document: {"text"}, all learnt; {"prompt", "response"}: the response and its
/// end are; {"messages"}: the assistant's turns are. Blank lines are skipped.
/// InputError, naming file and line, for bad JSON, missing keys and invalid UTF-8.
Sample read_piece(const Pieces& pieces, int64_t index, const TextCodec& codec);

}  // namespace farskip::train
