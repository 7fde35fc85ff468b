#include "text/codec.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "text/chat_reader.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using train::Sample;

/// What a row becomes.
class RowReader {
 public:
  RowReader(StretchEncoder encoder, std::vector<int64_t> ends, std::optional<ChatReader> chat,
            RowOptions options)
      : encoder_(std::move(encoder)),
        ends_(std::move(ends)),
        chat_(std::move(chat)),
        options_(std::move(options)) {}

  std::vector<Sample> read(const io::Json& json) const {
    return std::visit([this](auto row) { return documents(std::move(row)); },
                      read_row(json, options_));
  }

 private:
  std::vector<Sample> documents(TextRow row) const {
    Sample sample;
    sample.add(encoder_.begin(row.text), true);
    return {ended(std::move(sample))};
  }

  std::vector<Sample> documents(PromptRow row) const {
    Sample sample;
    sample.add(encoder_.begin(row.prompt), false);
    sample.add(encoder_.go_on(row.response), true);
    return {ended(std::move(sample))};
  }

  /// The template sets its own end marks.
  std::vector<Sample> documents(ChatRow row) const {
    std::vector<Sample> samples;
    for (const Passage& passage : chat_.value().read(std::move(row))) {
      Sample sample;
      size_t done = 0;
      const auto add = [&](size_t end, bool learnt) {
        const auto stretch = std::string_view(passage.text).substr(done, end - done);
        sample.add(done == 0 ? encoder_.tokenizer().encode(stretch) : encoder_.go_on(stretch),
                   learnt);
        done = end;
      };
      for (const auto& [begin, end] : passage.learnt) {
        add(begin, false);
        add(end, true);
      }
      add(passage.text.size(), false);
      samples.push_back(std::move(sample));
    }
    return samples;
  }

  Sample ended(Sample sample) const {
    const bool has_end = !sample.ids.empty() &&
                         std::find(ends_.begin(), ends_.end(), sample.ids.back()) != ends_.end();
    if (!ends_.empty() && !has_end) sample.add({ends_.front()}, true);
    return sample;
  }

  StretchEncoder encoder_;
  std::vector<int64_t> ends_;  ///< the first one is set
  std::optional<ChatReader> chat_;
  RowOptions options_;
};

std::vector<int64_t> end_tokens(const Tokenizer& tokenizer, const model::ModelConfig* config) {
  std::vector<int64_t> ends;
  if (config) ends = config->eos_tokens;
  if (const auto own = tokenizer.special_id("eos_token")) ends.push_back(*own);
  return ends;
}

std::string bytes_of(const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  std::string bytes;
  for (const int64_t id : ids) bytes += tokenizer.bytes_of(id);
  return bytes;
}

}  // namespace

StretchEncoder::StretchEncoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {
  const std::vector<int64_t> plain = tokenizer_.encode("a"), whole = tokenizer_.encode("a", true);
  const auto own = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  if (own != whole.end()) front_.assign(whole.begin(), own);
  adds_space_ = bytes_of(tokenizer_, plain) == " a";
}

std::vector<int64_t> StretchEncoder::begin(std::string_view text) const {
  std::vector<int64_t> ids = front_;
  const std::vector<int64_t> own = tokenizer_.encode(text);
  ids.insert(ids.end(), own.begin(), own.end());
  return ids;
}

std::vector<int64_t> StretchEncoder::go_on(std::string_view text) const {
  if (!adds_space_ || text.empty()) return tokenizer_.encode(text);
  // Behind a character that it does not grow together with, and without that.
  const std::string anchor = text.starts_with('\n') ? "|" : "\n";
  const std::vector<int64_t> ids = tokenizer_.encode(anchor + std::string(text));
  size_t bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (bytes == anchor.size() + 1) return {ids.begin() + static_cast<int64_t>(i), ids.end()};
    bytes += tokenizer_.bytes_of(ids[i]).size();
  }
  return tokenizer_.encode(text);
}

train::TextCodec open_codec(const std::filesystem::path& directory,
                            const model::ModelConfig* config,
                            const std::set<std::string>& ignored) {
  util::require(Tokenizer::exists(directory), directory.string(), "no tokenizer.json",
                "a tokenizer beside the model (it turns the text into tokens)");
  const StretchEncoder encoder(Tokenizer::open(directory));
  // Moonlight's tokenizer has two reserved tokens more than the model: what counts is what is used.
  const int64_t most = config ? config->vocabulary : INT64_MAX;
  const auto known = [most, name = directory.string()](std::vector<int64_t> ids) {
    const auto beyond =
        std::find_if(ids.begin(), ids.end(), [&](int64_t id) { return id >= most; });
    if (beyond != ids.end())
      throw InputError(util::concat(name, ": token of the text: found ", *beyond,
                                    ", expected less than the model's vocab_size ", most));
    return ids;
  };
  const std::vector<int64_t> ends = end_tokens(encoder.tokenizer(), config);
  RowOptions options{ignored};
  std::optional<ChatReader> chat;
  if (const auto found = ChatTemplate::open(directory)) {
    options.names = TemplateNames(found->source());
    chat.emplace([chat = *found](const Conversation& talk) { return chat.render(talk); },
                 options.names, found->marks_generation());
  }
  train::TextCodec codec;
  codec.encode = [encoder, known](std::string_view text, bool begins_document) {
    return known(begins_document ? encoder.begin(text) : encoder.go_on(text));
  };
  codec.bytes_of = [tokenizer = encoder.tokenizer()](int64_t id) { return tokenizer.bytes_of(id); };
  if (!ends.empty()) codec.end_of_text = ends.front();
  codec.row = [reader = RowReader(encoder, ends, std::move(chat), std::move(options)),
               known](const io::Json& row) {
    std::vector<Sample> samples = reader.read(row);
    for (Sample& sample : samples) sample.ids = known(std::move(sample.ids));
    return samples;
  };
  return codec;
}

}  // namespace farskip::text
