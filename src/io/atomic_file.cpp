#include "io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "util/error.h"

namespace farskip::io {
namespace fs = std::filesystem;

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  std::error_code ignored;
  const fs::file_status status = fs::status(target_, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw InputError(target_.string() +
                     ": found something that is no regular file, expected a file or a new name");
  for (int attempt = 0; file_.get() < 0; ++attempt) {
    partial_ = target_.parent_path() / util::concat('.', target_.filename().string(), '.',
                                                    ::getpid(), '-', attempt, ".partial");
    file_ = util::UniqueFd(::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_.get() >= 0 || errno == EEXIST) continue;
    const std::string reason = std::generic_category().message(errno);
    if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
      throw Error(target_.string() + ": can't be written: " + reason);
    throw InputError(target_.string() + ": found a place that can't be written to (" + reason +
                     "), expected a writable folder");
  }
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(partial_.c_str());
}

void AtomicFile::fail(const char* what) const {
  throw Error(target_.string() + ": " + what + ": " + std::generic_category().message(errno));
}

void AtomicFile::write(std::string_view bytes) {
  // One write call takes at most 2 GiB; smaller pieces let signals through.
  constexpr size_t kPiece = size_t{1} << 26;
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_.get(), bytes.data(), std::min(bytes.size(), kPiece));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("can't be written");
    bytes.remove_prefix(count);
  }
}

void AtomicFile::flush() {
  if (file_.get() < 0) return;
  if (::fsync(file_.get()) != 0) fail("can't be written");
  file_ = util::UniqueFd();
}

void AtomicFile::take_place() {
  if (::rename(partial_.c_str(), target_.c_str()) != 0) fail("can't take its place");
  committed_ = true;
}

void AtomicFile::commit() {
  flush();
  take_place();
  sync_folder(target_.parent_path());
}

void sync_folder(const fs::path& folder) {
  const fs::path name = folder.empty() ? fs::path(".") : folder;
  const util::UniqueFd fd(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems can't do it (EINVAL); the rename itself is done either way.
  if (fd.get() >= 0) ::fsync(fd.get());
}

}  // namespace farskip::io
