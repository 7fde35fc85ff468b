#include "text/chat_reader.h"

#include "io/text.h"
#include "text/row_messages.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json;

constexpr const char* kProbe = "farskip-probe-9d2a";

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

}  // namespace

ChatReader::ChatReader(Render render, TemplateNames names, bool marked)
    : render_(std::move(render)),
      names_(std::move(names)),
      marked_(marked),
      takes_parts_(takes_parts()) {}

/// Whether the template writes the text of a list's part, and not the list as Python would.
bool ChatReader::takes_parts() const {
  const Json part = {{"type", "text"}, {"text", kProbe}};
  Conversation probe;
  probe.messages = Json::array({Json{{"role", "user"}, {"content", Json::array({part})}}});
  try {
    const std::string text = render_(probe).text;
    return text.find(kProbe) != std::string::npos &&
           text.find(util::concat("'", kProbe, "'")) == std::string::npos;
  } catch (const InputError&) {
    return false;
  }
}

std::vector<Passage> ChatReader::read(ChatRow row) const {
  Conversation& conversation = row.conversation;
  if (!takes_parts_) flatten(conversation.messages);
  check_beside(conversation);
  check_roles(conversation);
  return passages(render_, marked_, conversation, row.learn);
}

void ChatReader::check_beside(const Conversation& conversation) const {
  for (auto [name, value] : {std::pair{"tools", &Conversation::tools},
                             std::pair{"documents", &Conversation::documents}}) {
    if ((conversation.*value).is_null()) continue;
    Conversation without = conversation;
    without.*value = Json();
    bool read = true;  // what can't be rendered without them reads them
    try {
      read = render_(without).text != render_(conversation).text;
    } catch (const InputError&) {
    }
    util::require(read, name, "them in the row", "a chat template that reads them");
  }
}

void ChatReader::check_roles(const Conversation& conversation) const {
  for (const Json& message : conversation.messages) {
    const std::string role = message.at("role");
    const Json& content = message.at("content");
    if (role == "user" || role == "assistant" || !content.is_string() || names_.field(role))
      continue;
    util::require(render_(conversation).text.find(trimmed(content)) != std::string::npos, "role",
                  io::in_quotes(role) + ", which the model's chat template leaves out",
                  "roles that it takes");
  }
}

}  // namespace farskip::text
