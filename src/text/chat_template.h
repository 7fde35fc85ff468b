// The chat template of a model: messages to the text that the model was trained on.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json_fields.h"

namespace farskip::text {

/// What a template is given.
struct Conversation {
  io::Json messages;   ///< a list of {"role", "content", ...}, as transformers takes it
  io::Json tools;      ///< null or a list of JSON schemas
  io::Json documents;  ///< null or a list
  io::Json variables;  ///< null or an object: whatever else the template may look at
                       ///< ("enable_thinking", "reasoning_effort", ...)
  bool add_generation_prompt = false;
  /// The last message is left open, so that the model goes on with it.
  bool continue_final_message = false;
};

struct Rendered {
  std::string text;
  /// Byte ranges that {% generation %} blocks wrote, in order.
  std::vector<std::pair<size_t, size_t>> generated;
};

class HubTemplates;  // hub.h

/// Immutable, cheap to copy; any number of threads may use one.
class ChatTemplate {
 public:
  /// The template of a model directory, in transformers' order: chat_template.jinja (and
  /// additional_chat_templates/), chat_template.json, tokenizer_config.json. Nothing if there is
  /// none. A template with a mistake opens; rendering says what is wrong with it.
  static std::optional<ChatTemplate> open(const std::filesystem::path& model_directory);
  /// From text instead of the directory's own; special tokens are the directory's. `name` stands in
  /// messages.
  static ChatTemplate with_source(const std::filesystem::path& model_directory, std::string source,
                                  std::string name);

  /// Over another implementation of what renders; `source` is shown to whoever asks.
  ChatTemplate(std::shared_ptr<const HubTemplates> hub, std::string source);

  /// Of several named ones the one called "default", or "tool_use" for a conversation with tools.
  const std::string& source() const;
  /// Whether it marks what the assistant says ({% generation %}).
  bool marks_generation() const;

  /// Equal to what transformers' apply_chat_template makes of it, byte for byte. InputError where
  /// the template has a mistake or raises an exception.
  Rendered render(const Conversation& conversation) const;

 private:
  std::shared_ptr<const HubTemplates> hub_;
  std::shared_ptr<const std::string> source_;
};

}  // namespace farskip::text
