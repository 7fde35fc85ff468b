// The body of /v1/completions.
#pragma once
#include <string_view>

#include "serve/generation_request.h"

namespace farskip::serve {

/// ApiError for what is wrong with it.
GenerationRequest parse_completion_request(std::string_view body, const ServedModel& model);

/// `prompt` of any kind: a text, token ids, or a list of either; of ids the text is shown without
/// special tokens where those are skipped. ApiError 400.
std::vector<Prompt> read_prompts(Parameters& parameters, const ServedModel& model,
                                 bool add_special_tokens, bool skip_special_tokens);

}  // namespace farskip::serve
