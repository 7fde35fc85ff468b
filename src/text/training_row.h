// What a row of a training set holds, whatever its keys are called.
#pragma once
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "text/chat_template.h"
#include "text/template_names.h"

namespace farskip::text {

/// All of it is learnt.
struct TextRow {
  std::string text;
};

/// The response is learnt, and the end behind it.
struct PromptRow {
  std::string prompt, response;
};

struct ChatRow {
  Conversation conversation;
  std::vector<bool> learn;  ///< by message
};

using TrainingRow = std::variant<TextRow, PromptRow, ChatRow>;

struct RowOptions {
  std::set<std::string> ignored;  ///< keys that are taken as if they weren't there
  TemplateNames names = {};       ///< of the chat template: what it reads is its business
};

/// Reads the shapes that docs/training.md lists. Keys with null or nothing in them count as absent.
/// What would change the text is used or refused; what is known to be about the text (ids, sources,
/// scores, ...) is let through; other keys are refused unless the row is plain text.
/// InputError "KEY: found X, expected Y".
TrainingRow read_row(const io::Json& row, const RowOptions& options);

}  // namespace farskip::text
