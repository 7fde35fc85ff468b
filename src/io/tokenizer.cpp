#include "io/tokenizer.h"

#include "io/added_tokens.h"
#include "io/bpe.h"
#include "io/byte_level.h"
#include "io/json_file.h"
#include "io/post_processor.h"
#include "io/pre_tokenizer.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

constexpr int64_t kMaxFile = int64_t{256} << 20;

/// Whether the normalizer composes (NFC). Of the others only those that do nothing are supported.
bool read_normalizer(const Fields& json) {
  const std::string type = json.string("type");
  if (type == "NFC") return true;
  if (type != "Sequence") json.refuse("type", "NFC or Sequence (others are not supported)");
  const Json steps = json.json().value("normalizers", Json());
  if (!steps.is_array()) json.refuse("normalizers", "a list");
  bool composes = false;
  for (size_t i = 0; i < steps.size(); ++i)
    composes |= read_normalizer(Fields(steps[i], util::concat(json.label(), "[", i, "]")));
  return composes;
}

/// The decoder must be ByteLevel; Fuse after it joins what is one text already.
void check_decoder(const Fields& json) {
  const std::string type = json.string("type");
  if (type == "ByteLevel") return;
  if (type != "Sequence") json.refuse("type", "ByteLevel or Sequence (others are not supported)");
  const Json steps = json.json().value("decoders", Json());
  if (!steps.is_array() || steps.empty()) json.refuse("decoders", "a list that is not empty");
  check_decoder(Fields(steps[0], json.label() + "[0]"));
  for (size_t i = 1; i < steps.size(); ++i) {
    const Fields step(steps[i], util::concat(json.label(), "[", i, "]"));
    if (step.string("type") != "Fuse") step.refuse("type", "Fuse (others are not supported)");
  }
}

}  // namespace

struct Tokenizer::Data {
  struct Token {
    std::string bytes;
    bool special = false;
  };

  Bpe bpe;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  std::vector<Token> tokens;  ///< by id

  void fill_tokens();
};

void Tokenizer::Data::fill_tokens() {
  const auto bytes = [](const std::string& token) {
    return byte_level_decode(token).value_or(token);
  };
  for (const std::string& token : bpe.tokens()) tokens.push_back({bytes(token)});
  for (const AddedToken& token : added.tokens()) {
    if (token.id >= static_cast<int64_t>(tokens.size())) tokens.resize(token.id + 1);
    tokens[token.id] = {bytes(token.content), token.special};
  }
}

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  return parse(read_file(tokenizer_json, kMaxFile), tokenizer_json.string());
}

Tokenizer Tokenizer::open(const std::filesystem::path& model_directory) {
  return load(model_directory / "tokenizer.json");
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& name) {
  const nlohmann::json file = parse_large_json(json, name);
  util::require(file.is_object(), name, shown(Json(file)), "an object");
  const auto part = [&](const char* key) { return file.value(key, nlohmann::json()); };
  const auto fields = [&](const char* key) { return Fields(Json(part(key)), name + ": " + key); };

  const bool compose = !part("normalizer").is_null() && read_normalizer(fields("normalizer"));
  check_decoder(fields("decoder"));
  Bpe bpe = Bpe::parse(part("model"), name + ": model");
  AddedTokens added =
      AddedTokens::parse(part("added_tokens"), bpe, compose, name + ": added_tokens");
  auto data = std::make_shared<Data>(
      Data{std::move(bpe), std::move(added), PreTokenizer::parse(fields("pre_tokenizer")), {}, {}});
  data->fill_tokens();
  if (!part("post_processor").is_null())
    data->post_processor = PostProcessor::parse(fields("post_processor"), data->tokens.size());
  return Tokenizer(std::move(data));
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid < text.size())
    throw InputError(util::concat("text to encode: found invalid UTF-8 at byte ", invalid,
                                  ", expected valid UTF-8"));
  std::vector<int64_t> ids;
  for (const AddedTokens::Part& part : data_->added.split(text)) {
    if (part.id)
      ids.push_back(*part.id);
    else
      data_->bpe.encode(data_->pre_tokenizer.split(part.text).views, ids);
  }
  return add_special_tokens ? data_->post_processor.add_special_tokens(std::move(ids)) : ids;
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  TextStream stream(*this, skip_special_tokens);
  std::string text;
  for (const int64_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

std::string_view Tokenizer::bytes_of(int64_t id) const {
  if (id < 0 || id >= vocabulary_size())
    throw InputError(
        util::concat("token id: found ", id, ", expected 0 to ", vocabulary_size() - 1));
  return data_->tokens[id].bytes;
}

bool Tokenizer::is_special(int64_t id) const {
  bytes_of(id);
  return data_->tokens[id].special;
}

std::optional<int64_t> Tokenizer::id_of(std::string_view token) const {
  const auto added = data_->added.id_of(token);
  return added ? added : data_->bpe.id_of(token);
}

int64_t Tokenizer::vocabulary_size() const {
  return static_cast<int64_t>(data_->tokens.size());
}

std::string TextStream::push(int64_t id) {
  const std::string_view bytes = tokenizer_.bytes_of(id);
  return skip_special_tokens_ && tokenizer_.is_special(id) ? "" : text_.push(bytes);
}

}  // namespace farskip::io
