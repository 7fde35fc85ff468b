#include "train/samples.h"

#include <algorithm>

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

std::vector<Sample> read_line(std::string_view line, const TextCodec& codec) {
  const io::Json row = io::parse_json(line, "JSON");
  util::require(row.is_object(), "JSON", io::shown(row), "an object");
  util::require(codec.row != nullptr, "JSON", "a row", "plain text");
  return codec.row(row);
}

/// "\r\n" and "\r" as "\n", as the text files of Hugging Face's `datasets` are read.
std::string with_newlines(std::string text) {
  if (text.find('\r') == std::string::npos) return text;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      out += '\n';
    }
  }
  return out;
}

std::vector<int64_t> encode_text(std::string_view text, bool begins_document,
                                 const TextCodec& codec) {
  util::require(text.find('\0') == std::string_view::npos, "text", "a zero byte (binary data)",
                "text");
  return codec.encode(text, begins_document);
}

Sample read_text(const Pieces& pieces, int64_t index, const TextCodec& codec) {
  const Piece& piece = pieces[index];
  const std::string text = with_newlines(pieces.read(index));
  Sample sample;
  try {
    sample.add(encode_text(text, piece.starts_document, codec), true);
  } catch (const InputError&) {
    // Which line it is: each is valid or invalid by itself.
    each_line(pieces.read(index), [&](std::string_view line, int64_t offset) {
      at_place(pieces, index, offset, [&] { encode_text(line, false, codec); });
    });
    throw;
  }
  if (!piece.starts_document && !sample.learn.empty()) sample.learn.front() = false;
  const bool ends =
      codec.end_of_text && (sample.ids.empty() || sample.ids.back() != *codec.end_of_text);
  if (piece.ends_document && ends) sample.add({*codec.end_of_text}, true);
  return sample;
}

}  // namespace

void Sample::add(const std::vector<int64_t>& tokens, bool learnt) {
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  learn.insert(learn.end(), tokens.size(), learnt);
}

void Sample::add(const Sample& next) {
  ids.insert(ids.end(), next.ids.begin(), next.ids.end());
  learn.insert(learn.end(), next.learn.begin(), next.learn.end());
}

int64_t Sample::learnt() const {
  return std::count(learn.begin(), learn.end(), true);
}

void read_documents(const Pieces& pieces, int64_t index, const TextCodec& codec,
                    const EachDocument& each) {
  if (!pieces.is_lines(index)) return each(read_text(pieces, index, codec), 0);
  each_line(pieces.read(index), [&](std::string_view line, int64_t offset) {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    std::vector<Sample> documents;
    at_place(pieces, index, offset, [&] { documents = read_line(line, codec); });
    if (documents.empty()) documents.emplace_back();
    for (const Sample& document : documents) each(document, offset);
  });
}

Sample read_piece(const Pieces& pieces, int64_t index, const TextCodec& codec) {
  Sample sample;
  read_documents(pieces, index, codec,
                 [&](const Sample& document, int64_t) { sample.add(document); });
  return sample;
}

}  // namespace farskip::train
