#include "engine/sampler.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "kernels/top_k.h"
#include "util/error.h"

namespace farskip::engine {

void check(const SamplingOptions& options) {
  util::require(std::isfinite(options.temperature) && options.temperature >= 0, "--temperature",
                options.temperature, "0 (greedy) or more");
  util::require(options.top_p > 0 && options.top_p <= 1, "--top-p", options.top_p,
                "a probability above 0 and up to 1");
}

int64_t Sampler::sample(const at::Tensor& logits) {
  const std::optional<int64_t> best = kernels::argmax(logits);
  if (!best) throw Error("logits: found a value that is not finite, expected numbers");
  if (options_.temperature == 0) return *best;

  const at::Tensor row = logits.to(at::kCPU, at::kFloat).contiguous();
  const float* value = row.const_data_ptr<float>();
  const int64_t size = row.numel();
  std::vector<double> weight(size);
  for (int64_t i = 0; i < size; ++i)
    weight[i] = std::exp((value[i] - value[*best]) / options_.temperature);
  std::vector<int64_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (options_.top_p < 1) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return weight[a] > weight[b]; });
    double kept = 0;
    size_t count = 0;
    while (count < order.size() && kept < options_.top_p * total) kept += weight[order[count++]];
    order.resize(count);
    total = kept;
  }
  double draw = std::uniform_real_distribution<double>(0, total)(random_);
  for (const int64_t token : order) {
    draw -= weight[token];
    if (draw < 0) return token;
  }
  return order.back();
}

}  // namespace farskip::engine
