#include "util/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "util/error.h"

namespace farskip::util {

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

UniqueFd open_to_read(const std::filesystem::path& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0)
    throw InputError(
        util::concat(path.string(), ": found ",
                     errno == ENOENT ? "no such file" : std::generic_category().message(errno),
                     ", expected a readable file"));
  return file;
}

}  // namespace farskip::util
