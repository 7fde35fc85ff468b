// What happens to an engine between two steps, told to the ranks that run it together.
#pragma once
#include <cstdint>
#include <vector>

#include "comm/group.h"
#include "engine/request.h"

namespace farskip::engine {

struct Submitted {
  uint64_t id = 0;
  Request request;
};

struct News {
  std::vector<Submitted> submitted;
  std::vector<uint64_t> cancelled;  ///< by their owners
  std::vector<uint64_t> stopped;    ///< by their listeners
  bool closed = false;              ///< there will be no more

  bool empty() const {
    return submitted.empty() && cancelled.empty() && stopped.empty() && !closed;
  }
};

/// Rank 0's news, on every rank; those of the others are not looked at. A few bytes where there is
/// none. CommError if a rank is lost.
News shared(const comm::Group& group, News own);

}  // namespace farskip::engine
