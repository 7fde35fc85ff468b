#include "train/codec.h"

#include "io/tokenizer.h"
#include "util/error.h"

namespace farskip::train {

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
  if (!config.eos_tokens.empty()) codec.end_of_text = config.eos_tokens.front();
  return codec;
}

}  // namespace farskip::train
