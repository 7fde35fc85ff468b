#include "train/codec.h"

#include "io/tokenizer.h"
#include "util/error.h"

namespace farskip::train {

std::vector<Turn> chat_turns(const io::ChatTemplate& chat, const io::Json& messages) {
  util::require(messages.is_array() && !messages.empty(), "messages", io::shown(messages),
                "a list of {\"role\", \"content\"}");
  const std::string whole = chat.render(messages, /*add_generation_prompt=*/false);
  std::vector<Turn> turns;
  size_t done = 0;
  io::Json part = io::Json::array();
  for (const io::Json& message : messages) {
    const bool learn = io::Fields(message, "messages").string("role") == "assistant";
    const std::string before = learn ? chat.render(part, /*add_generation_prompt=*/true) : "";
    part.push_back(message);
    if (!learn) continue;
    const std::string after = chat.render(part, /*add_generation_prompt=*/false);
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
  util::require(std::filesystem::exists(directory / "tokenizer.json"), directory.string(),
                "no tokenizer.json",
                "a tokenizer beside the model (it turns the text into tokens)");
  const auto tokenizer = io::Tokenizer::open(directory);
  util::require(tokenizer.vocabulary_size() <= config.vocabulary,
                (directory / "tokenizer.json").string() + ": tokens", tokenizer.vocabulary_size(),
                util::concat("at most the model's vocab_size ", config.vocabulary));
  TextCodec codec;
  codec.encode = [tokenizer](std::string_view text, bool begins_document) {
    return tokenizer.encode(text, begins_document);
  };
  if (const auto chat = io::ChatTemplate::open(directory))
    codec.chat = [chat = *chat](const io::Json& messages) { return chat_turns(chat, messages); };
  if (!config.eos_tokens.empty()) codec.end_of_text = config.eos_tokens.front();
  return codec;
}

}  // namespace farskip::train
