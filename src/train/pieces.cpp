#include "train/pieces.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostPieces = 1'000'000;
constexpr int64_t kWindow = 16 << 10;  ///< bytes that are looked through for a place to cut

std::string read_bytes(const fs::path& path, int fd, int64_t begin, int64_t length) {
  std::string text(length, '\0');
  int64_t done = 0;
  while (done < length) {
    const ssize_t count = ::pread(fd, text.data() + done, length - done, begin + done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw Error(util::concat(
          path.string(), ": can't be read at byte ", begin + done, ": ",
          count == 0 ? std::string("it became shorter") : std::generic_category().message(errno)));
    done += count;
  }
  return text;
}

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
    if ((static_cast<unsigned char>(window[i]) & 0xC0) != 0x80) return i;
  return size;
}

}  // namespace

Pieces::Pieces(std::vector<fs::path> files, int64_t piece_bytes) : files_(std::move(files)) {
  int64_t total = 0;
  for (const fs::path& file : files_) {
    std::error_code failed;
    util::require(fs::is_regular_file(file, failed), file.string(),
                  fs::is_directory(file, failed) ? "a folder" : "no such file",
                  "a text file or a .jsonl file");
    util::require(file.extension() != ".gz", file.string(), "a compressed file",
                  "plain text (unpack it with gunzip)");
    lengths_.push_back(static_cast<int64_t>(fs::file_size(file)));
    util::require(lengths_.back() > 0, file.string(), "an empty file", "text");
    jsonl_.push_back(file.extension() == ".jsonl");
    total += lengths_.back();
  }
  util::require(!files_.empty(), "data", "no files", "at least one");
  piece_bytes = std::max(piece_bytes, total / kMostPieces);
  for (size_t i = 0; i < files_.size(); ++i)
    cut_file(static_cast<int32_t>(i), lengths_[i], piece_bytes);
}

void Pieces::cut_file(int32_t file, int64_t length, int64_t piece_bytes) {
  const util::UniqueFd fd = util::open_to_read(files_[file]);
  for (int64_t begin = 0; begin < length;) {
    int64_t end = begin + piece_bytes;
    if (jsonl_[file]) {
      --end;  // a line that ends exactly there is whole
      for (bool found = false; !found && end < length;) {
        const auto window =
            read_bytes(files_[file], fd.get(), end, std::min(kWindow, length - end));
        const size_t newline = window.find('\n');
        found = newline != std::string::npos;
        end += static_cast<int64_t>(found ? newline + 1 : window.size());
        if (end - begin > kMaxLineBytes + piece_bytes)
          throw InputError(util::concat(files_[file].string(), ": byte ", begin,
                                        ": found a line of more than ", kMaxLineBytes,
                                        " bytes, expected one JSON object a line"));
      }
    } else if (end < length) {
      const int64_t size = std::min(kWindow, length - end);
      end += text_cut(read_bytes(files_[file], fd.get(), end, size), end + size == length);
    }
    end = std::min(end, length);
    pieces_.push_back({file, begin, end, begin == 0, end == length});
    begin = end;
  }
}

std::string Pieces::read(int64_t index) const {
  const Piece& piece = pieces_[index];
  const util::UniqueFd fd = util::open_to_read(files_[piece.file]);
  return read_bytes(files_[piece.file], fd.get(), piece.begin, piece.end - piece.begin);
}

std::string Pieces::place(int64_t index, int64_t offset) const {
  const Piece& piece = pieces_[index];
  const util::UniqueFd fd = util::open_to_read(files_[piece.file]);
  constexpr int64_t kStep = 1 << 20;
  const int64_t end = piece.begin + offset;
  int64_t line = 1;
  for (int64_t at = 0; at < end; at += kStep) {
    const std::string text =
        read_bytes(files_[piece.file], fd.get(), at, std::min(kStep, end - at));
    line += std::count(text.begin(), text.end(), '\n');
  }
  return util::concat(files_[piece.file].string(), ':', line);
}

std::string Pieces::describe() const {
  std::string text;
  for (size_t i = 0; i < files_.size(); ++i)
    text +=
        util::concat(i ? ", " : "", files_[i].filename().string(), " (", lengths_[i], " bytes)");
  return text;
}

}  // namespace farskip::train
