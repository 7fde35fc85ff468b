// Files of training data, whatever they are packed in, as text or as JSON lines.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "util/unique_fd.h"

namespace farskip::train {

using Write = std::function<void(std::string_view bytes)>;
/// Writes the rows of a Parquet or Arrow file as JSON lines.
using TableReader = std::function<void(const std::filesystem::path&, const Write&)>;

/// One file as plain bytes. What is compressed, a JSON array or a table is unpacked once, into a
/// temporary file without a name (in TMPDIR), which goes with the last copy of this value.
struct DataFile {
  std::filesystem::path path;                      ///< as the user named it
  bool is_lines = false;                           ///< JSON lines; else text
  bool has_rows = false;                           ///< its lines are rows of an array or a table
  int64_t begin = 0;                               ///< first byte behind a byte order mark
  int64_t end = 0;                                 ///< bytes in all
  std::shared_ptr<const util::UniqueFd> unpacked;  ///< what is read in place of `path`, if any

  /// Bytes begin .. begin + length.
  std::string read(int64_t begin, int64_t length) const;
};

/// By its name (in any case, .gz behind it or not): .jsonl, .ndjson and .jsonlines are JSON lines;
/// .json is a list, or lines; .parquet, .arrow and .feather are tables; anything else is text.
/// Tables and gzip are known by their first bytes too. InputError for a file that can't be read or
/// is empty, binary data, UTF-16, and formats that are known but not read.
DataFile open_data_file(const std::filesystem::path& path, const TableReader& tables);

}  // namespace farskip::train
