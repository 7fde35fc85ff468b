// The ranks of this job: who they are, and how a verb runs on several.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "comm/grid.h"
#include "model/model.h"
#include "options.h"

namespace farskip::app {

/// A fact that every rank must have alike: what it is, and its value.
using Fact = std::pair<std::string, std::string>;

struct Ranks {
  std::unique_ptr<comm::Rendezvous> rendezvous;
  comm::Grid grid;
  model::ExpertRanks experts;  ///< how passes reach the experts

  bool leads() const { return grid.rank() == 0; }
  model::ExpertShare share() const { return {grid.expert_part(), grid.ep}; }
};

/// Meets the other ranks, where a launcher started several, and makes sure that all run the same
/// program in the same layout with the same `facts`. InputError for a layout that does not fit.
Ranks join(const RunOptions& options, std::vector<Fact> facts);

/// A fact about a checkpoint's directory: its configuration and weights, by their sizes, headers
/// and some of their bytes.
Fact checkpoint_fact(const std::string& directory);
/// A fact about a configuration.
Fact config_fact(const model::ModelConfig& config);

}  // namespace farskip::app
