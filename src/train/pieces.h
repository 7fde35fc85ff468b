// Training files cut into pieces that can be read in any order: what makes data larger than memory
// shufflable, and a position in it a few numbers.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace farskip::train {

/// Bytes of one file that are read together: whole lines of a .jsonl file, or a stretch of a text
/// file that ends at a line's end where there is one.
struct Piece {
  int32_t file = 0;
  int64_t begin = 0;
  int64_t end = 0;
  bool starts_document = false;  ///< text files: the first piece
  bool ends_document = false;    ///< text files: the last piece
};

/// The pieces of a list of files, in order. Holds 24 bytes a piece and no text; building it reads a
/// few bytes around each cut.
class Pieces {
 public:
  static constexpr int64_t kDefaultBytes = 16 << 10;
  static constexpr int64_t kMaxLineBytes = 64 << 20;

  /// InputError for files that can't be read or are empty, and for .gz files. Pieces have about
  /// `piece_bytes`, more where that would make more than a million of them.
  explicit Pieces(std::vector<std::filesystem::path> files, int64_t piece_bytes = kDefaultBytes);

  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  const Piece& operator[](int64_t index) const { return pieces_[index]; }
  bool is_jsonl(int64_t index) const { return jsonl_[pieces_[index].file]; }
  std::string read(int64_t index) const;
  /// "FILE:LINE" of a byte of a piece, for messages (counts lines from the file's start).
  std::string place(int64_t index, int64_t offset) const;
  /// Names and lengths of the files, to recognise the same data again.
  std::string describe() const;

 private:
  void cut_file(int32_t file, int64_t length, int64_t piece_bytes);

  std::vector<std::filesystem::path> files_;
  std::vector<bool> jsonl_;
  std::vector<int64_t> lengths_;
  std::vector<Piece> pieces_;
};

}  // namespace farskip::train
