// The chat template of a model: messages to the text that the model was trained on.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_file.h"

namespace farskip::io {

/// The special tokens that a model directory's tokenizer_config.json names ("eos_token": text), as
/// templates know them. None without the file; InputError for damage.
std::map<std::string, Json> special_tokens(const std::filesystem::path& model_directory);

/// Immutable, cheap to copy; any number of threads may use one.
class ChatTemplate {
 public:
  /// chat_template.jinja of a model directory, else chat_template of its tokenizer_config.json (the
  /// one named "default" of several). Nothing if there is none. InputError for damage, and for
  /// Jinja beyond what is supported (see io/jinja), with the line.
  static std::optional<ChatTemplate> open(const std::filesystem::path& model_directory);

  /// From text. `tokens` are variables such as bos_token; `name` stands in messages.
  static ChatTemplate parse(std::string_view source, std::map<std::string, Json> tokens,
                            std::string name);

  const std::string& source() const;

  /// Equal to what transformers makes of a list of {"role": ..., "content": ...}, byte for byte.
  /// InputError where the template raises an exception.
  std::string render(const Json& messages, bool add_generation_prompt) const;

 private:
  struct Data;
  explicit ChatTemplate(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

  std::shared_ptr<const Data> data_;
};

}  // namespace farskip::io
