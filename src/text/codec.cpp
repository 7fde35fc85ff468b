#include "text/codec.h"

#include "text/tokenizer.h"
#include "util/error.h"

namespace farskip::text {

using train::TextCodec, train::Turn;

std::vector<Turn> chat_turns(const ChatTemplate& chat, const io::Json& messages) {
  util::require(messages.is_array() && !messages.empty(), "messages", io::shown(messages),
                "a list of {\"role\", \"content\"}");
  const auto render = [&](const io::Json& part, bool add_generation_prompt) {
    Conversation talk{.messages = part};
    talk.add_generation_prompt = add_generation_prompt;
    return chat.render(talk).text;
  };
  const std::string whole = render(messages, false);
  std::vector<Turn> turns;
  size_t done = 0;
  io::Json part = io::Json::array();
  for (const io::Json& message : messages) {
    const bool learn = io::Fields(message, "messages").string("role") == "assistant";
    const std::string before = learn && !part.empty() ? render(part, true) : "";
    part.push_back(message);
    if (!learn) continue;
    const std::string after = render(part, false);
    if (before.size() < done || !after.starts_with(before) || !whole.starts_with(after)) continue;
    turns.push_back({whole.substr(done, before.size() - done), false});
    turns.push_back({after.substr(before.size()), true});
    done = after.size();
  }
  util::require(!turns.empty(), "messages", "no assistant message that can be learnt",
                "one whose rendering continues its generation prompt");
  return turns;
}

TextCodec open_codec(const std::filesystem::path& directory, const model::ModelConfig& config) {
  util::require(Tokenizer::exists(directory), directory.string(), "no tokenizer",
                "one beside the model (it turns the text into tokens)");
  const auto tokenizer = Tokenizer::open(directory);
  util::require(tokenizer.vocabulary_size() <= config.vocabulary, directory.string() + ": tokens",
                tokenizer.vocabulary_size(),
                util::concat("at most the model's vocab_size ", config.vocabulary));
  TextCodec codec;
  codec.encode = [tokenizer](std::string_view text, bool begins_document) {
    return tokenizer.encode(text, begins_document);
  };
  if (const auto chat = ChatTemplate::open(directory))
    codec.chat = [chat = *chat](const io::Json& messages) { return chat_turns(chat, messages); };
  if (!config.eos_tokens.empty()) codec.end_of_text = config.eos_tokens.front();
  return codec;
}

}  // namespace farskip::text
