// Choosing the next token from logits.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <random>

namespace farskip::engine {

struct SamplingOptions {
  double temperature = 0;  ///< 0 = greedy; of equal logits the lowest id
  double top_p = 1;        ///< nucleus: the smallest set of tokens with at least this probability
  uint64_t seed = 0;
};

/// InputError for a negative temperature or a top_p outside (0, 1].
void check(const SamplingOptions& options);

/// One sequence's sampler; the same draws for the same seed. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  /// logits [vocabulary]. Error where they are not finite.
  int64_t sample(const at::Tensor& logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace farskip::engine
