// The bodies of /tokenize and /detokenize, and the answers to them.
#pragma once
#include <string_view>

#include "io/json_fields.h"
#include "serve/generation_request.h"

namespace farskip::serve {

/// {"prompt"} or {"messages"} -> {"count", "max_model_len", "tokens"}, with "token_strs" if asked
/// for. ApiError.
io::Json tokenize(std::string_view body, const ServedModel& model);

/// {"tokens"} -> {"prompt"}, special tokens shown. ApiError.
io::Json detokenize(std::string_view body, const ServedModel& model);

}  // namespace farskip::serve
