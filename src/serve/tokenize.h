// The bodies of /tokenize and /detokenize, and the answers to them and to /tokenizer_info.
#pragma once
#include <string_view>

#include "io/json_fields.h"
#include "serve/generation_request.h"

namespace farskip::serve {

/// {"prompt"} or {"messages"} -> {"count", "max_model_len", "tokens"}, with "token_strs" if asked
/// for. ApiError.
io::Json tokenize(std::string_view body, const ServedModel& model);

/// {"eos_token", "bos_token", "chat_template", ...}: what the model's directory says, as vLLM
/// tells it; null where it says nothing. An end token stands in config.json too.
io::Json tokenizer_info(const ServedModel& model);

/// {"tokens"} -> {"prompt"}, special tokens shown. ApiError.
io::Json detokenize(std::string_view body, const ServedModel& model);

}  // namespace farskip::serve
