// Text to token ids and back, as transformers' AutoTokenizer does it for a model directory.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_fields.h"
#include "io/unicode.h"

namespace farskip::text {

class HubTokenizer;  // hub.h

/// The tokenizer of a model directory: tokenizer.json by Hugging Face's `tokenizers`, or
/// tiktoken.model by `tiktoken`, with what transformers' classes add by tokenizer_config.json,
/// special_tokens_map.json and added_tokens.json. Immutable, cheap to copy; any number of threads
/// may use one. Code that a checkpoint brings (tokenization_*.py) is never run.
class Tokenizer {
 public:
  /// InputError naming the file that is damaged or not supported, or the Python package that is
  /// missing with the command that installs it.
  static Tokenizer open(const std::filesystem::path& model_directory);
  /// Over another implementation of what encodes and decodes.
  explicit Tokenizer(std::shared_ptr<const HubTokenizer> hub);
  /// Whether open() has a file to read there.
  static bool exists(const std::filesystem::path& model_directory);

  /// Special tokens that stand in the text are recognised; with `add_special_tokens` those that
  /// the model's class sets stand around it. Truncation and padding of the file are not applied, as
  /// in transformers. InputError for invalid UTF-8.
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = false) const;

  /// Valid UTF-8: bytes that are none become U+FFFD. InputError for ids out of range.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const;

  /// The bytes of one token; they need not be whole characters. Of a token whose text depends on
  /// its neighbours (SentencePiece's first space), what it stands for inside a text.
  std::string_view bytes_of(int64_t id) const;
  bool is_special(int64_t id) const;
  /// Of a token as its file spells it ("Ġthe", "<|endoftext|>").
  std::optional<int64_t> id_of(std::string_view token) const;
  /// Ids are 0..vocabulary_size() - 1.
  int64_t vocabulary_size() const;

  /// By their names in transformers: "bos_token", "eos_token", ... and the model's own
  /// ("image_token") to their texts; those that it does not have are missing.
  const std::map<std::string, std::string>& special_tokens() const;
  /// The id of one of them, by its name.
  std::optional<int64_t> special_id(const std::string& name) const;

 private:
  friend class TextStream;
  struct Data;

  std::shared_ptr<const Data> data_;
};

/// Decodes ids as they are generated. What is pushed and finished adds up to decode() of all ids,
/// but for clean_up_tokenization_spaces, which decode() honours: a stream tells what was written.
class TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer, bool skip_special_tokens = true)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  /// The characters that are complete with this id. InputError if it is out of range.
  std::string push(int64_t id);
  /// What an unfinished character at the end stands for: U+FFFD or nothing.
  std::string finish();

 private:
  std::string text_from(size_t begin) const;

  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  io::LossyUtf8 text_;  ///< where tokens are bytes that follow one another
  /// Where they are not, all ids are decoded from `begin_` on, and what is new is told.
  std::vector<int64_t> ids_;
  size_t begin_ = 0, end_ = 0;  ///< the ids of the piece that was told last
  size_t told_ = 0;             ///< bytes of it
};

}  // namespace farskip::text
