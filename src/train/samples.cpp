#include "train/samples.h"

#include "io/json_file.h"
#include "util/error.h"

namespace farskip::train {
namespace {

/// Runs `body`; its InputError is given the place in front.
template <class Body>
void at_place(const Pieces& pieces, int64_t index, int64_t offset, Body body) {
  try {
    body();
  } catch (const InputError& error) {
    throw InputError(pieces.place(index, offset) + ": " + error.what());
  }
}

template <class Body>
void each_line(std::string_view text, Body body) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = std::min(text.find('\n', begin), text.size());
    body(text.substr(begin, newline - begin), static_cast<int64_t>(begin));
    begin = newline + 1;
  }
}

void add_line(Sample& sample, std::string_view line, const TextCodec& codec) {
  const io::Json json = io::parse_json(line, "JSON");
  const io::Fields fields(json, "JSON");
  if (fields.has("messages")) {
    if (!codec.chat)
      throw InputError("messages: found a conversation, expected a model with a chat template");
    for (const Turn& turn : codec.chat(json["messages"]))
      sample.add(codec.encode(turn.text, false), turn.learn);
    return;  // the template sets its own end marks
  }
  if (fields.has("prompt")) {
    sample.add(codec.encode(fields.string("prompt"), true), false);
    sample.add(codec.encode(fields.string("response"), false), true);
  } else if (fields.has("text")) {
    sample.add(codec.encode(fields.string("text"), true), true);
  } else {
    std::string keys;
    for (const auto& [key, value] : json.items()) keys += (keys.empty() ? "" : ", ") + key;
    throw InputError(util::concat("found the keys ", io::in_quotes(keys),
                                  ", expected text, prompt and response, or messages"));
  }
  if (codec.end_of_text) sample.add({*codec.end_of_text}, true);
}

}  // namespace

void Sample::add(const std::vector<int64_t>& tokens, bool learnt) {
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  learn.insert(learn.end(), tokens.size(), learnt);
}

Sample read_piece(const Pieces& pieces, int64_t index, const TextCodec& codec) {
  const std::string text = pieces.read(index);
  Sample sample;
  if (pieces.is_jsonl(index)) {
    each_line(text, [&](std::string_view line, int64_t offset) {
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
      at_place(pieces, index, offset, [&] { add_line(sample, line, codec); });
    });
    return sample;
  }
  const Piece& piece = pieces[index];
  try {
    sample.add(codec.encode(text, piece.starts_document), true);
  } catch (const InputError&) {
    // Which line it is: each is valid or invalid by itself.
    each_line(text, [&](std::string_view line, int64_t offset) {
      at_place(pieces, index, offset, [&] { codec.encode(line, false); });
    });
    throw;
  }
  if (!piece.starts_document && !sample.learn.empty()) sample.learn.front() = false;
  if (piece.ends_document && codec.end_of_text) sample.add({*codec.end_of_text}, true);
  return sample;
}

}  // namespace farskip::train
