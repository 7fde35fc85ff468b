// The page at /: a chat with the model, and what the server is doing.
#pragma once
#include <string>
#include <string_view>

namespace farskip::serve {

/// One HTML page that needs nothing else; it talks to the same server as any client. Without a chat
/// template it continues texts.
std::string chat_page(const std::string& model, bool has_chat_template);

/// Its style sheet and script.
std::string_view page_style();
std::string_view page_script();

}  // namespace farskip::serve
