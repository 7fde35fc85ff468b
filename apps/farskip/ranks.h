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
  model::Share share;          ///< of the model that this rank loads

  /// `share`, and what prefill with this connectivity wants beside.
  model::Share share_of_prefill(const model::Connectivity& connectivity) const;
  bool leads() const { return grid.rank() == 0; }
  /// Whether every rank has all tokens; else each has rows of its own.
  bool replicated() const { return experts.reducer != nullptr; }
  /// As --transport says it.
  std::string transport() const;
};

/// How ranks may share a verb's work: each has rows of its own (all-to-all), or all have all tokens
/// (all-reduce); a verb that has both has all-gather too, where each has rows of its own.
enum class Layouts {
  all_to_all,
  either,            ///< all-to-all where nobody asks for another
  either_replicated  ///< all-reduce where nobody asks for another
};

/// Meets the other ranks, where a launcher started several, and makes sure that all run the same
/// program in the same layout with the same `facts`. InputError for a layout that does not fit, or
/// that the verb does not have.
Ranks join(const RunOptions& options, std::vector<Fact> facts,
           Layouts layouts = Layouts::all_to_all);

/// A fact about a checkpoint's directory: its configuration and weights, by their sizes, headers
/// and some of their bytes.
Fact checkpoint_fact(const std::string& directory);
/// A fact about a configuration.
Fact config_fact(const model::ModelConfig& config);
/// A fact about what the verb's own options say, or those of one group of --help; how ranks run is
/// compared by join().
Fact options_fact(const CLI::App& verb, const std::string& group = "");

}  // namespace farskip::app
