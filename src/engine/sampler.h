// Choosing the next token from logits.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace farskip::engine {

/// As in transformers and vLLM, applied in this order: bias, penalties, temperature, top_k, top_p,
/// min_p.
struct SamplingOptions {
  double temperature = 0;  ///< 0 = greedy; of equal logits the lowest id
  double top_p = 1;        ///< nucleus: the smallest set of tokens with at least this probability
  uint64_t seed = 0;
  int64_t top_k = 0;  ///< only so many tokens; 0: all
  double min_p = 0;   ///< only tokens at least this fraction as probable as the likeliest
  /// Logits of tokens in prompt or output are divided by it where positive, else multiplied.
  double repetition_penalty = 1;
  double presence_penalty = 0;   ///< taken off the logits of tokens in the output
  double frequency_penalty = 0;  ///< the same, once for every time
  std::vector<std::pair<int64_t, double>> logit_bias = {};  ///< token and what is added
};

/// InputError by the option's name for a value outside its range; `vocabulary` bounds logit_bias.
void check(const SamplingOptions& options, int64_t vocabulary);

/// Whether every choice is the token of the greatest logit, as the model gives them.
bool is_plain_greedy(const SamplingOptions& options);

/// One sequence's sampler; the same draws for the same seed. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options, const std::vector<int64_t>& prompt = {});

  /// logits [vocabulary]. The choice counts as output from now on. -1 where a logit is not finite.
  int64_t sample(const at::Tensor& logits);

 private:
  void change(float* logits, int64_t size) const;
  /// At random among those that top_k, top_p and min_p leave.
  int64_t draw(const at::Tensor& logits, int64_t best);

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::map<int64_t, int64_t> prompt_, output_;  ///< how often a token came up
};

/// What the model itself said of a position, whatever was sampled with.
struct LogProbabilities {
  double chosen = 0;  ///< natural logarithm of the chosen token's probability
  int64_t rank = 1;   ///< of the chosen token, 1 = the likeliest
  std::vector<std::pair<int64_t, double>> top;  ///< the likeliest, best first; of equal ones the
                                                ///< lowest id first
};
/// logits [vocabulary]; `count` of the likeliest.
LogProbabilities log_probabilities(const at::Tensor& logits, int64_t chosen, int64_t count);

}  // namespace farskip::engine
