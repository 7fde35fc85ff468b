// One message of a chat, from OpenAI's form to the one that chat templates know.
#pragma once
#include <string>

#include "io/json_fields.h"

namespace farskip::serve {

/// Lists of text parts become texts, and the arguments of tool calls objects, as vLLM makes them.
/// ApiError 400 by `place` ("messages[2]") for what is no message, and for fields that templates
/// do not know.
io::Json read_message(const io::Json& given, const std::string& place);

/// What read_message() made of `given`, with the arguments of tool calls as the client sent them.
io::Json with_text_arguments(io::Json message, const io::Json& given);

}  // namespace farskip::serve
