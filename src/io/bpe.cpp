#include "io/bpe.h"

#include <algorithm>

#include "io/bpe_word.h"
#include "io/byte_level.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

/// Every byte has a token in practice; real vocabularies end near 300,000.
constexpr size_t kMaxTokens = size_t{1} << 24;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

/// A merge is written ["a", "b"] or "a b".
std::pair<std::string, std::string> read_merge(const nlohmann::json& merge,
                                               const std::string& label) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0], merge[1]};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  if (space == std::string::npos || space != text.rfind(' '))
    throw InputError(util::concat(label, ": found ", shown(Json(merge)),
                                  ", expected two tokens, as \"a b\" or [\"a\", \"b\"]"));
  return {text.substr(0, space), text.substr(space + 1)};
}

/// Refuses what this class doesn't do.
void check_supported(const Fields& model) {
  if (model.optional_string("type").value_or("BPE") != "BPE")
    model.refuse("type", "BPE (others are not supported)");
  if (model.optional_number("dropout").value_or(0) != 0)
    model.refuse("dropout", "null or 0 (encoding is not random here)");
  if (model.optional_boolean("byte_fallback").value_or(false))
    model.refuse("byte_fallback", "false (only byte-level BPE is supported)");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.optional_string(affix).value_or("").empty())
      model.refuse(affix, "null (it is not supported)");
}

}  // namespace

Bpe Bpe::parse(const nlohmann::json& model, const std::string& label) {
  util::require(model.is_object(), label, shown(Json(model)), "an object");
  Json small = Json::object();
  for (const auto& [key, value] : model.items())
    if (key != "vocab" && key != "merges") small[key] = Json(value);
  const Fields fields(small, label);
  check_supported(fields);

  Bpe bpe;
  bpe.read_vocabulary(model.value("vocab", nlohmann::json()), label + ": vocab");
  bpe.read_merges(model.value("merges", nlohmann::json()), label + ": merges");
  const auto& alphabet = byte_level_alphabet();
  for (int byte = 0; byte < 256; ++byte)
    bpe.byte_ids_[byte] = static_cast<int32_t>(bpe.id_of(alphabet[byte]).value_or(-1));
  if (const auto unknown = fields.optional_string("unk_token")) {
    const auto id = bpe.id_of(*unknown);
    if (!id) fields.refuse("unk_token", "a token of the vocabulary");
    bpe.unknown_ = static_cast<int32_t>(*id);
  }
  bpe.fuse_unknown_ = fields.optional_boolean("fuse_unk").value_or(false);
  if (fields.optional_boolean("ignore_merges").value_or(false))
    for (const auto& [token, id] : bpe.ids_)
      if (auto bytes = byte_level_decode(token)) bpe.whole_words_.emplace(std::move(*bytes), id);
  return bpe;
}

void Bpe::read_vocabulary(const nlohmann::json& vocabulary, const std::string& label) {
  util::require(vocabulary.is_object() && !vocabulary.empty(), label, shown(Json(vocabulary)),
                "an object of tokens and ids");
  util::require(vocabulary.size() <= kMaxTokens, label, vocabulary.size(), "fewer tokens");
  tokens_.resize(vocabulary.size());
  ids_.reserve(vocabulary.size());
  std::vector<bool> given(vocabulary.size(), false);
  for (const auto& [token, value] : vocabulary.items()) {
    const bool valid = value.is_number_unsigned() && value.get<uint64_t>() < tokens_.size();
    if (!valid || given[value.get<size_t>()])
      throw InputError(util::concat(label, ": ", in_quotes(token), ": found ", shown(Json(value)),
                                    valid ? " for the second time" : "",
                                    ", expected each id from 0 to ", tokens_.size() - 1, " once"));
    const auto id = value.get<int32_t>();
    given[id] = true;
    tokens_[id] = token;
    ids_.emplace(tokens_[id], id);
  }
}

void Bpe::read_merges(const nlohmann::json& merges, const std::string& label) {
  util::require(merges.is_array(), label, shown(Json(merges)), "a list");
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string at = util::concat(label, "[", i, "]");
    if (merges[i].is_string() && merges[i].get_ref<const std::string&>().rfind("#version", 0) == 0)
      continue;
    const auto [left, right] = read_merge(merges[i], at);
    const auto id = [&](const std::string& token) {
      const auto known = id_of(token);
      if (!known)
        throw InputError(
            util::concat(at, ": found ", in_quotes(token), ", expected a token of the vocabulary"));
      return static_cast<int32_t>(*known);
    };
    const Merge merge{rank++, id(left + right)};
    merges_.insert_or_assign(pair_key(id(left), id(right)), merge);
  }
}

std::optional<int64_t> Bpe::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional<int64_t>(found->second);
}

const Bpe::Merge* Bpe::merge_of(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::encode(const std::vector<std::string_view>& words, std::vector<int64_t>& ids) const {
  struct Range {
    size_t begin, end;
  };
  std::unordered_map<std::string_view, Range> done;  // where in `ids` a word was written before
  Word word(*this);
  for (const std::string_view bytes : words) {
    const auto [entry, is_new] = done.try_emplace(bytes, Range{ids.size(), ids.size()});
    Range& range = entry->second;
    if (!is_new) {
      for (size_t i = range.begin; i < range.end; ++i) {
        const int64_t id = ids[i];  // a copy: ids may grow into other memory
        ids.push_back(id);
      }
      continue;
    }
    const auto whole =
        whole_words_.empty() ? whole_words_.end() : whole_words_.find(std::string(bytes));
    if (whole != whole_words_.end())
      ids.push_back(whole->second);
    else
      word.encode(bytes, ids);
    range.end = ids.size();
  }
}

}  // namespace farskip::io
