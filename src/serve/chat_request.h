// The body of /v1/chat/completions.
#pragma once
#include <string_view>

#include "serve/generation_request.h"

namespace farskip::serve {

/// ApiError for what is wrong with it, and for a model without a chat template.
GenerationRequest parse_chat_request(std::string_view body, const ServedModel& model);

/// `messages`, as one prompt in the model's chat template. ApiError 400.
Prompt read_messages(Parameters& parameters, const ServedModel& model, bool add_generation_prompt);

}  // namespace farskip::serve
