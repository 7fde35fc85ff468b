// Two strands of a rank's work that take turns: while one waits for a message, the other computes.
#pragma once
#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/pending.h"

namespace farskip::model {

/// One strand runs at a time. It gives way at every wait for a message, whether that has arrived or
/// not: which launch follows which depends on the program alone and is the same on all ranks.
class Turns {
 public:
  /// While a strand ran.
  struct Turn {
    int64_t strand = 0;
    comm::Clock::time_point begin, end;
  };

  Turns() = default;
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;
  ~Turns();

  /// Runs strand 0 on the calling thread and strand 1 on another one, with the caller's
  /// thread-local state of ATen; 0 begins. If one throws, the other is ended in its hand_over(),
  /// and the exception comes out here. -> the turns that they took
  std::vector<Turn> run(const std::function<void()>& first, const std::function<void()>& second);

  /// For the strand whose turn it is, on any thread: lets the other run until that gives way or
  /// ends. Does nothing outside of run(), and where the other has ended.
  void hand_over();

 private:
  void play(int strand, const std::function<void()>& work);
  void work();
  bool failed();
  /// Ends the turn of the strand that has it.
  void pass_on(int to);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::array<bool, 2> running_ = {false, false};
  int turn_ = 0;  ///< the strand that has it
  std::exception_ptr failure_;
  std::vector<Turn> turns_;
  comm::Clock::time_point since_;
  std::function<void()> second_;  ///< for the thread; empty once it has been taken
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace farskip::model
