// What the ranks that run an engine together tell each other between two steps, as values and as
// bytes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace farskip::engine {

/// A request on its way to the rank that works on it.
struct Submitted {
  uint64_t id = 0;
  Request request;
  int64_t rank = 0;  ///< where every rank has sequences of its own; else all work on it
};

/// What rank 0 tells the others.
struct News {
  std::vector<Submitted> submitted;
  std::vector<uint64_t> dropped;  ///< ended by whom they belong to; may have ended by themselves
  bool closed = false;            ///< there will be no more

  bool empty() const { return submitted.empty() && dropped.empty() && !closed; }
};

/// What a step did to one sequence, in the order of the fields.
struct Progress {
  uint64_t id = 0;
  std::optional<int64_t> begun;              ///< first worked on; tokens found in the cache
  std::optional<std::vector<Token>> prompt;  ///< what was asked for about the prompt's tokens
  std::optional<Token> token;                ///< a new one
  std::optional<Finish> finish;              ///< the sequence is gone
  std::string error = {};                    ///< of Finish::failed

  bool empty() const { return !begun && !prompt && !token && !finish; }
};

/// A rank after a step.
struct Report {
  bool idle = true;  ///< it has no sequence
  int64_t running = 0, pages = 0, pages_used = 0, preempted = 0;
  std::vector<Progress> progress;
};

std::vector<uint8_t> to_bytes(const News& news);
News news_from(const uint8_t* bytes, int64_t size);
std::vector<uint8_t> to_bytes(const Report& report, const News& news);
std::pair<Report, News> report_from(const uint8_t* bytes, int64_t size);

}  // namespace farskip::engine
