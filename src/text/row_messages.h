// The messages of a training row, as the chat template takes them.
#pragma once
#include <string>
#include <vector>

#include "io/json_fields.h"
#include "text/template_names.h"

namespace farskip::text {

struct Messages {
  io::Json list = io::Json::array();
  std::vector<bool> learn;  ///< by message

  void add(const char* role, const std::string& content, bool learnt);
};

/// Reads {"role", "content", ...} or ShareGPT's {"from", "value"}; of the latter, and of role names
/// that the template does not know, the field's own are made (human: user, gpt: assistant,
/// observation: tool, function_call: an assistant's tool call). An assistant's message is learnt
/// unless one of weight, train, training, trainable, loss, loss_mask, learn is 0 or false.
/// Lists of text parts stay lists; see flatten(). `key` stands in messages of errors.
/// InputError for an unknown role, a weight other than 0 and 1, parts that are no text, and keys
/// that neither the template names nor say something about the message.
Messages read_messages(const std::string& key, const io::Json& value, const TemplateNames& names);

/// Makes one string of the content of every message that is a list of text parts.
void flatten(io::Json& messages);

}  // namespace farskip::text
