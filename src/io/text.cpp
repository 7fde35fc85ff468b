#include "io/text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::io {

std::string printable(std::string_view text, size_t limit) {
  const bool cut = text.size() > limit;
  // The library's serialiser knows UTF-8; the quotes and escapes that it adds are taken off again.
  std::string line = nlohmann::json(std::string(text.substr(0, limit)))
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
  line = nlohmann::json::parse(line).get<std::string>();
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return cut ? line + "..." : line;
}

std::string in_quotes(std::string_view text, size_t limit) {
  return '"' + printable(text, limit) + '"';
}

std::string read_file(const std::filesystem::path& path, int64_t max_bytes) {
  const util::UniqueFd file = util::open_to_read(path);
  struct stat status {};
  std::string text;
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode))
    text.reserve(std::min<int64_t>(status.st_size, max_bytes) + 1);
  constexpr size_t kStep = size_t{1} << 20;
  for (;;) {
    const size_t before = text.size();
    text.resize(before + kStep);
    const ssize_t count = ::read(file.get(), text.data() + before, kStep);
    if (count < 0 && errno == EINTR) {
      text.resize(before);
      continue;
    }
    if (count < 0)
      throw InputError(util::concat(path.string(), ": found a file that can't be read (",
                                    std::generic_category().message(errno),
                                    "), expected a readable file"));
    text.resize(before + count);
    if (count == 0) return text;
    if (static_cast<int64_t>(text.size()) > max_bytes)
      throw InputError(util::concat(path.string(), ": found a file of more than ", max_bytes,
                                    " bytes, expected a smaller one"));
  }
}

}  // namespace farskip::io
