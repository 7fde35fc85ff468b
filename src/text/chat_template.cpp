#include "text/chat_template.h"

#include <regex>

#include "text/hub.h"

namespace farskip::text {

ChatTemplate::ChatTemplate(std::shared_ptr<const HubTemplates> hub, std::string source)
    : hub_(std::move(hub)), source_(std::make_shared<const std::string>(std::move(source))) {}

const std::string& ChatTemplate::source() const {
  return *source_;
}

bool ChatTemplate::marks_generation() const {
  static const std::regex mark(R"(\{%-?\s*generation\s*-?%\})");
  return std::regex_search(*source_, mark);
}

Rendered ChatTemplate::render(const Conversation& conversation) const {
  return hub_->render(conversation);
}

}  // namespace farskip::text
