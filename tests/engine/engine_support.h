// What the tests of the engine share.
#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "support/golden.h"

namespace farskip::engine {

using namespace farskip::test;

/// Keeps what it is told.
class Recorder : public Listener {
 public:
  void on_prompt(const std::vector<Token>& tokens) override {
    EXPECT_TRUE(prompt.empty());
    prompt = tokens;
  }
  bool on_token(const Token& token) override {
    EXPECT_EQ(finishes, 0);
    tokens.push_back(token);
    return std::ssize(tokens) != stop_after;
  }
  void on_finish(const Outcome& found) override {
    outcome = found;
    ++finishes;
  }
  std::vector<int64_t> ids() const {
    std::vector<int64_t> found;
    for (const Token& token : tokens) found.push_back(token.id);
    return found;
  }

  int64_t stop_after = -1;
  std::vector<Token> prompt, tokens;
  Outcome outcome;
  std::atomic<int> finishes = 0;
};

inline Request greedy(std::vector<int64_t> prompt, int64_t new_tokens) {
  return {.prompt = std::move(prompt), .sampling = {}, .max_new_tokens = new_tokens};
}

inline std::vector<int64_t> random_prompt(std::mt19937_64& random, int64_t length,
                                          int64_t vocabulary) {
  std::vector<int64_t> prompt;
  for (int64_t i = 0; i < length; ++i)
    prompt.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(vocabulary)));
  return prompt;
}

inline EngineOptions options_for(const model::Model& model, const std::string& connectivity,
                                 int64_t sequences, int64_t batch_tokens, int64_t cache_pages,
                                 int64_t page_tokens = 64) {
  return {.connectivity = variant(connectivity, model.config.depth()),
          .cache_bytes = cache_bytes(model, cache_pages, 1, page_tokens),
          .page_tokens = page_tokens,
          .max_sequences = sequences,
          .max_batch_tokens = batch_tokens};
}

inline model::Model small_model(at::ScalarType dtype = at::kFloat) {
  return model::load_model(golden_directory("deepseek_v3"), dtype);
}

}  // namespace farskip::engine
