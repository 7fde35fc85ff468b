#include "text/tokenizer.h"

#include "text/hub.h"
#include "text/token_bytes.h"
#include "util/error.h"

namespace farskip::text {
namespace {

constexpr const char* kFiles[] = {"tokenizer.json", "tiktoken.model", "vocab.json"};

}  // namespace

struct Tokenizer::Data {
  std::shared_ptr<const HubTokenizer> hub;
  std::map<std::string, std::string> special_tokens;
  bool joins = true;               ///< the text of several tokens is their bytes in a row
  std::vector<std::string> bytes;  ///< by id
  std::vector<bool> special;       ///< by id
};

bool Tokenizer::exists(const std::filesystem::path& model_directory) {
  for (const char* file : kFiles)
    if (std::filesystem::exists(model_directory / file)) return true;
  return false;
}

Tokenizer::Tokenizer(std::shared_ptr<const HubTokenizer> hub) {
  auto data = std::make_shared<Data>();
  data->special_tokens = hub->special_tokens();
  const Spelling spelling = hub->spelling();
  data->joins = text::joins(spelling);
  data->bytes = hub->tokens();
  for (std::string& token : data->bytes) token = token_bytes(token, spelling);
  data->special.resize(data->bytes.size());
  for (const int64_t id : hub->special_ids()) data->special.at(id) = true;
  data->hub = std::move(hub);
  data_ = std::move(data);
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const size_t invalid = io::first_invalid_utf8(text);
  if (invalid < text.size())
    throw InputError(util::concat("text to encode: found invalid UTF-8 at byte ", invalid,
                                  ", expected valid UTF-8"));
  return data_->hub->encode(text, add_special_tokens);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  for (const int64_t id : ids) bytes_of(id);
  return data_->hub->decode(ids, skip_special_tokens, /*clean_up=*/true);
}

std::string_view Tokenizer::bytes_of(int64_t id) const {
  if (id < 0 || id >= vocabulary_size())
    throw InputError(
        util::concat("token id: found ", id, ", expected 0 to ", vocabulary_size() - 1));
  return data_->bytes[id];
}

bool Tokenizer::is_special(int64_t id) const {
  bytes_of(id);
  return data_->special[id];
}

std::optional<int64_t> Tokenizer::id_of(std::string_view token) const {
  return data_->hub->id_of(token);
}

int64_t Tokenizer::vocabulary_size() const {
  return static_cast<int64_t>(data_->bytes.size());
}

const std::map<std::string, std::string>& Tokenizer::special_tokens() const {
  return data_->special_tokens;
}

std::optional<int64_t> Tokenizer::special_id(const std::string& name) const {
  const auto token = data_->special_tokens.find(name);
  return token == data_->special_tokens.end() ? std::nullopt : id_of(token->second);
}

std::string TextStream::push(int64_t id) {
  const std::string_view bytes = tokenizer_.bytes_of(id);
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return "";
  if (tokenizer_.data_->joins) return text_.push(bytes);
  ids_.push_back(id);
  const std::string text = text_from(begin_);
  if (text.ends_with("\uFFFD")) return "";  // maybe a character that the next token ends
  std::string piece = text.size() > told_ ? text.substr(told_) : "";
  // The next text depends on the piece before it, not on more: on the whole piece, which may be
  // several tokens that are bytes of one character.
  begin_ = end_;
  end_ = ids_.size();
  told_ = text_from(begin_).size();
  return piece;
}

std::string TextStream::finish() {
  if (tokenizer_.data_->joins) return text_.finish();
  const std::string text = text_from(begin_);
  return text.size() > told_ ? text.substr(told_) : "";
}

std::string TextStream::text_from(size_t begin) const {
  return tokenizer_.data_->hub->decode(std::span(ids_).subspan(begin), skip_special_tokens_,
                                       /*clean_up=*/false);
}

}  // namespace farskip::text
