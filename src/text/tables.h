// Parquet and Arrow files as rows.
#pragma once
#include <filesystem>
#include <vector>

#include "train/pieces.h"

namespace farskip::text {

/// Writes the rows of a Parquet file, or of an Arrow file or stream, as JSON lines; nulls in
/// objects are left out (a table has every field in every row). Read by pyarrow, a batch at a time.
/// InputError if the file is damaged or pyarrow is missing.
void read_table(const std::filesystem::path& path, const train::Write& write);

/// Pieces of files of any kind.
train::Pieces open_pieces(const std::vector<std::filesystem::path>& files);

}  // namespace farskip::text
