#include "train/pieces.h"

#include <algorithm>

#include "util/error.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostPieces = 1'000'000;
constexpr int64_t kWindow = 16 << 10;  ///< bytes that are looked through for a place to cut

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// Where to cut text in `window`: before a line that starts with a word, else before a space
/// (tokens carry their space in front), else between two characters. The rest of a file stays
/// whole.
int64_t text_cut(const std::string& window, bool last) {
  const auto size = static_cast<int64_t>(window.size());
  for (int64_t i = 1; i < size; ++i)
    if (window[i - 1] == '\n' && !is_space(window[i])) return i;
  if (last) return size;
  for (int64_t i = 1; i < size; ++i)
    if (window[i] == ' ' && !is_space(window[i - 1])) return i;
  for (int64_t i = 1; i < size; ++i)
    if ((static_cast<unsigned char>(window[i]) & 0xC0) != 0x80 &&
        !(window[i - 1] == '\r' && window[i] == '\n'))
      return i;
  return size;
}

}  // namespace

Pieces::Pieces(const std::vector<fs::path>& files, int64_t piece_bytes, const TableReader& tables) {
  util::require(!files.empty(), "data", "no files", "at least one");
  int64_t total = 0;
  for (const fs::path& file : files) {
    files_.push_back(open_data_file(file, tables));
    total += files_.back().end;
  }
  piece_bytes = std::max(piece_bytes, total / kMostPieces);
  for (size_t i = 0; i < files_.size(); ++i) cut_file(static_cast<int32_t>(i), piece_bytes);
}

void Pieces::cut_file(int32_t index, int64_t piece_bytes) {
  const DataFile& file = files_[index];
  for (int64_t begin = file.begin; begin < file.end;) {
    int64_t end = begin + piece_bytes;
    if (file.is_lines) {
      --end;  // a line that ends exactly there is whole
      for (bool found = false; !found && end < file.end;) {
        const auto window = file.read(end, std::min(kWindow, file.end - end));
        const size_t newline = window.find('\n');
        found = newline != std::string::npos;
        end += static_cast<int64_t>(found ? newline + 1 : window.size());
        if (end - begin > kMaxLineBytes + piece_bytes)
          throw InputError(util::concat(file.path.string(), ": byte ", begin,
                                        ": found a line of more than ", kMaxLineBytes,
                                        " bytes, expected one JSON object a line"));
      }
    } else if (end < file.end) {
      const int64_t size = std::min(kWindow, file.end - end);
      end += text_cut(file.read(end, size), end + size == file.end);
    }
    end = std::min(end, file.end);
    pieces_.push_back({index, begin, end, begin == file.begin, end == file.end});
    begin = end;
  }
}

std::string Pieces::read(int64_t index) const {
  const Piece& piece = pieces_[index];
  return files_[piece.file].read(piece.begin, piece.end - piece.begin);
}

std::string Pieces::place(int64_t index, int64_t offset) const {
  const Piece& piece = pieces_[index];
  const DataFile& file = files_[piece.file];
  constexpr int64_t kStep = 1 << 20;
  const int64_t end = piece.begin + offset;
  int64_t line = 1;
  for (int64_t at = 0; at < end; at += kStep) {
    const std::string text = file.read(at, std::min(kStep, end - at));
    line += std::count(text.begin(), text.end(), '\n');
  }
  return util::concat(file.path.string(), file.has_rows ? ": row " : ":", line);
}

std::string Pieces::describe() const {
  std::string text;
  for (const DataFile& file : files_)
    text += util::concat(text.empty() ? "" : ", ", file.path.filename().string(), " (", file.end,
                         " bytes)");
  return text;
}

}  // namespace farskip::train
