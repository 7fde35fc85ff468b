// The text codec of a model's own tokenizer.
#pragma once
#include <filesystem>

#include "model/config.h"
#include "text/chat_template.h"
#include "train/samples.h"

namespace farskip::text {

/// A conversation as the template writes it, cut at what is learnt: for every assistant message the
/// text between its generation prompt and the end of the message. Where a template rewrites earlier
/// turns once there are later ones (dropped thoughts), those earlier ones are not learnt.
/// InputError if nothing can be learnt or the template refuses the conversation.
std::vector<train::Turn> chat_turns(const ChatTemplate& chat, const io::Json& messages);

/// Reads tokenizer.json (and what belongs to it) of a folder. InputError if there is none, or if it
/// has more tokens than the model.
train::TextCodec open_codec(const std::filesystem::path& directory,
                            const model::ModelConfig& config);

}  // namespace farskip::text
