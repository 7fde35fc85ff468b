// The micro-batches of a training step: one after another, or the forward pass of each beside the
// backward pass of the one before.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "model/turns.h"

namespace farskip::schedule {

/// begin(i) runs a forward pass and gives what finish(pass, i) runs loss and backward pass of, for
/// i = 0 .. count - 1. With `turns`, finish(i) and begin(i + 1) take turns (see model::Turns; their
/// ExpertRanks hold the same): two micro-batches are in memory, gradients still add up in the order
/// of i and have the same bits. -> the turns, whose strands are micro-batches; none without
template <class Begin, class Finish>
std::vector<model::Turns::Turn> run_micro_batches(int64_t count, model::Turns* turns,
                                                  const Begin& begin, const Finish& finish) {
  std::vector<model::Turns::Turn> taken;  // of a run, strand 0 is micro-batch i, 1 the next
  std::array<std::optional<decltype(begin(count))>, 2> passes;
  for (int64_t i = 0; i < count; ++i) {
    auto& pass = passes[i % 2];
    auto& next = passes[(i + 1) % 2];
    if (!pass) pass.emplace(begin(i));
    if (turns && i + 1 < count) {
      for (model::Turns::Turn turn :
           turns->run([&] { finish(*pass, i); }, [&] { next.emplace(begin(i + 1)); })) {
        turn.strand += i;
        taken.push_back(turn);
      }
    } else {
      finish(*pass, i);
    }
    pass.reset();
  }
  return taken;
}

}  // namespace farskip::schedule
