// Training files cut into pieces that can be read in any order: what makes data larger than memory
// shufflable, and a position in it a few numbers.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/data_file.h"

namespace farskip::train {

/// Bytes of one file that are read together: whole lines of JSON lines, or a stretch of a text that
/// ends at a line's end where there is one.
struct Piece {
  int32_t file = 0;
  int64_t begin = 0;
  int64_t end = 0;
  bool starts_document = false;  ///< text files: the first piece
  bool ends_document = false;    ///< text files: the last piece
};

/// The pieces of a list of files, in order. Holds 24 bytes a piece and no text; building it reads a
/// few bytes around each cut, and unpacks what is packed (see DataFile).
class Pieces {
 public:
  static constexpr int64_t kDefaultBytes = 16 << 10;
  static constexpr int64_t kMaxLineBytes = 64 << 20;

  /// InputError for files that can't be read, are empty or hold neither text nor rows. Pieces have
  /// about `piece_bytes`, more where that would make more than a million of them.
  explicit Pieces(const std::vector<std::filesystem::path>& files,
                  int64_t piece_bytes = kDefaultBytes, const TableReader& tables = {});

  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  const Piece& operator[](int64_t index) const { return pieces_[index]; }
  /// JSON lines; else text.
  bool is_lines(int64_t index) const { return files_[pieces_[index].file].is_lines; }
  std::string read(int64_t index) const;
  /// Of a byte of a piece, for messages: "FILE:LINE", or "FILE: row ROW" where lines are rows of an
  /// array or a table (counts from the file's start).
  std::string place(int64_t index, int64_t offset) const;
  /// Names and lengths of the files (unpacked ones), to recognise the same data again.
  std::string describe() const;

 private:
  void cut_file(int32_t file, int64_t piece_bytes);

  std::vector<DataFile> files_;
  std::vector<Piece> pieces_;
};

}  // namespace farskip::train
