// The body of /v1/chat/completions.
#pragma once
#include <string_view>

#include "serve/generation_request.h"

namespace farskip::serve {

/// ApiError for what is wrong with it, and for a model without a chat template.
GenerationRequest parse_chat_request(std::string_view body, const ServedModel& model);

/// `messages` and all that a chat template may look at, as one prompt: tools, documents,
/// chat_template_kwargs, reasoning_effort, add_generation_prompt, continue_final_message,
/// add_special_tokens. What the template does not look at is refused. ApiError 400.
Prompt read_conversation(Parameters& parameters, const ServedModel& model);

}  // namespace farskip::serve
