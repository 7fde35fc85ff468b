// The page at /: a chat with the model, and what the server is doing.
#pragma once
#include <string>
#include <string_view>

#include "measure/step_recorder.h"

namespace farskip::serve {

/// One HTML page that needs nothing else; it talks to the same server as any client. Without a chat
/// template it continues texts.
std::string chat_page(const std::string& model, bool has_chat_template);

/// The last forward pass of the kind, as a page that renews itself.
std::string timeline_page(measure::StepRecorder& steps, measure::StepRecorder::Kind kind);

/// The chat's style sheet and script.
std::string_view page_style();
std::string_view page_script();

}  // namespace farskip::serve
