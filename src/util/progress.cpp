#include "util/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "util/error.h"
#include "util/table.h"

namespace farskip::util {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kLogInterval = std::chrono::seconds(30);

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(std::string what, int64_t total, bool shown)
    : what_(std::move(what)),
      total_(total),
      silent_(!shown),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(terminal_ ? start_ - kLogInterval : start_) {}

Progress::~Progress() {
  finish();
}

std::string Progress::line(int64_t done, const std::string& details) const {
  std::string text = concat(what_, ' ', done);
  if (total_ > 0) {
    text += concat('/', total_);
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    if (done > begin_ && done < total_)
      text += concat(", ",
                     duration(seconds / static_cast<double>(done - begin_) *
                              static_cast<double>(total_ - done)),
                     " left");
  }
  return details.empty() ? text : text + ", " + details;
}

void Progress::update(int64_t done, const std::string& details) {
  if (silent_) return;
  latest_ = line(done, details);
  const auto now = Clock::now();
  if (now - last_ <
      (terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kLogInterval)))
    return;
  last_ = now;
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", latest_.c_str());
    latest_.clear();
    return;
  }
  const size_t width = terminal_width();
  std::fprintf(stderr, "\r\033[K%s", latest_.substr(0, width > 1 ? width - 1 : 1).c_str());
  std::fflush(stderr);
  shown_ = true;
}

void Progress::clear() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

void Progress::say(const std::string& line) {
  if (silent_) return;
  clear();
  std::fprintf(stderr, "%s\n", line.c_str());
}

void Progress::finish() {
  clear();
  if (!latest_.empty()) std::fprintf(stderr, "%s\n", latest_.c_str());
  latest_.clear();
}

}  // namespace farskip::util
