// Files that appear whole or not at all.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "util/unique_fd.h"

namespace farskip::io {

/// Writes beside the target (".NAME.PID-N.partial", same folder) and renames over it at commit():
/// until then the old file stays as it was. Without commit() nothing is left behind; what a killed
/// run leaves is never read and does not stand in the way.
class AtomicFile {
 public:
  /// InputError if the folder can't be written to, or the target is there but no regular file.
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Appends. Error (naming the target) when the disk is full or fails.
  void write(std::string_view bytes);
  /// Brings everything to the disk and closes.
  void flush();
  /// Renames only, for several files at once: flush() before, sync_folder() after.
  void take_place();
  /// All three.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path target_;
  std::filesystem::path partial_;
  util::UniqueFd file_;
  bool committed_ = false;
};

/// Makes the entries of a folder (new names, renames) outlast a power cut.
void sync_folder(const std::filesystem::path& folder);

}  // namespace farskip::io
