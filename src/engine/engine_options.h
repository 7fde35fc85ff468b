// How an engine is set up, on one rank or on several.
#pragma once
#include "comm/group.h"
#include "engine/step_observer.h"
#include "model/expert_ranks.h"
#include "model/model.h"

namespace farskip::engine {

/// Every rank's engine is given the same ones. Memory and limits are those of one rank, which count
/// once where all ranks work on the same sequences (ExpertRanks::reducer), and once a rank where
/// each has sequences of its own.
struct EngineOptions {
  model::Connectivity connectivity;
  /// Memory of keys and values; a whole number of pages is made of it.
  int64_t cache_bytes = int64_t{1} << 30;
  /// Tokens a page: what a sequence's memory grows by, and the grain of prefixes that are found
  /// again.
  int64_t page_tokens = 64;
  /// Sequences that are worked on at once; others queue.
  int64_t max_sequences = 64;
  /// Tokens of one forward pass: of every running sequence one, the rest parts of prompts.
  int64_t max_batch_tokens = 512;
  /// Tokens of prompts whose keys and values are kept after their sequence, for prompts that begin
  /// alike.
  bool reuse_prefixes = true;
  /// How passes run on several ranks. With a reducer every rank has all tokens; else each has
  /// sequences of its own, and a courier, if any, carries tokens to the experts of other ranks.
  model::ExpertRanks ranks = {};
  /// All ranks that make steps together, to tell each other of them: rank 0 alone takes requests
  /// and answers them, the others follow(). With a reducer it may be a group of one: then every
  /// rank is given the same requests, and answers them.
  comm::Group group = {};
  /// Looks on; must outlive the engine. Null: nothing is recorded.
  StepObserver* observer = nullptr;

  /// Whether every rank has sequences of its own.
  bool own_sequences() const { return group.size() > 1 && !ranks.reducer; }
};

/// Pages of a rank's cache. InputError where the memory has no room for one.
int64_t page_count(const model::Model& model, const EngineOptions& options);

/// Memory for keys and values of so many sequences of so many tokens.
int64_t cache_bytes(const model::Model& model, int64_t sequences, int64_t tokens,
                    int64_t page_tokens = EngineOptions().page_tokens);

}  // namespace farskip::engine
