// Text to token ids and back, as Hugging Face's tokenizers does it for byte-level BPE.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/unicode.h"

namespace farskip::io {

/// Immutable, cheap to copy; any number of threads may use one.
class Tokenizer {
 public:
  /// A tokenizer.json of Hugging Face. InputError naming what is damaged or not supported.
  static Tokenizer load(const std::filesystem::path& tokenizer_json);
  /// The same from text; `name` stands in messages.
  static Tokenizer parse(std::string_view json, const std::string& name);
  /// The tokenizer.json of a model directory.
  static Tokenizer open(const std::filesystem::path& model_directory);

  /// Special tokens that stand in the text are always recognised; with `add_special_tokens` those
  /// of the post_processor stand around it. Truncation and padding of the file are not applied, as
  /// in transformers. InputError for invalid UTF-8.
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = false) const;

  /// Valid UTF-8: bytes that are none become U+FFFD. InputError for ids out of range.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const;

  /// The bytes of one token; they need not be whole characters.
  std::string_view bytes_of(int64_t id) const;
  bool is_special(int64_t id) const;
  /// Of a token as tokenizer.json spells it ("Ġthe", "<|endoftext|>").
  std::optional<int64_t> id_of(std::string_view token) const;
  /// Ids are 0..vocabulary_size() - 1.
  int64_t vocabulary_size() const;

 private:
  struct Data;
  explicit Tokenizer(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

  std::shared_ptr<const Data> data_;
};

/// Decodes ids as they are generated. What is pushed and finished adds up to decode() of all ids.
class TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer, bool skip_special_tokens = true)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  /// The characters that are complete with this id. InputError if it is out of range.
  std::string push(int64_t id);
  /// What an unfinished character at the end stands for: U+FFFD or nothing.
  std::string finish() { return text_.finish(); }

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  LossyUtf8 text_;
};

}  // namespace farskip::io
