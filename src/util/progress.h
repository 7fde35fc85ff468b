// One line that says how far a long run is.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace farskip::util {

/// On a terminal: one line on stderr, overwritten at most ten times a second. Elsewhere: a plain
/// line now and then, so that log files stay short. Not thread-safe.
class Progress {
 public:
  /// `total` = 0: unknown, no share and no time left are shown.
  /// `shown` = false: of a rank that leaves talking to another; prints nothing.
  explicit Progress(std::string what, int64_t total = 0, bool shown = true);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// `done` of `total` are finished; `details` stand behind ("loss 2.31, 810 tokens/s"). `begin` is
  /// where a resumed run started, so that the time left is right.
  void update(int64_t done, const std::string& details = {});
  void begin_at(int64_t done) { begin_ = done; }
  /// A line of its own that stays.
  void say(const std::string& line);
  /// Ends the overwritten line, which stays visible.
  void finish();

 private:
  std::string line(int64_t done, const std::string& details) const;
  void clear();

  std::string what_;
  int64_t total_;
  int64_t begin_ = 0;
  bool silent_, terminal_;
  bool shown_ = false;  ///< an unfinished line stands on the terminal
  std::chrono::steady_clock::time_point start_, last_;
  std::string latest_;
};

}  // namespace farskip::util
