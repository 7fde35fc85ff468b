#include "engine/sampler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/top_k.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

/// Token ids, the likeliest first (of equal ones the lowest id), sorted as far as they are asked
/// for: a nucleus is a small part of a vocabulary.
class Ranking {
 public:
  Ranking(const double* weight, int64_t size) : weight_(weight), ids_(size) {
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  int64_t operator[](int64_t place) {
    while (place >= sorted_) sort_more();
    return ids_[place];
  }

 private:
  void sort_more() {
    const auto size = static_cast<int64_t>(ids_.size());
    const int64_t until = std::min(size, std::max<int64_t>(64, 8 * sorted_));
    const auto before = [this](int64_t a, int64_t b) {
      return weight_[a] != weight_[b] ? weight_[a] > weight_[b] : a < b;
    };
    const auto from = ids_.begin() + sorted_, to = ids_.begin() + until;
    if (until < size) std::nth_element(from, to, ids_.end(), before);
    std::sort(from, to, before);
    sorted_ = until;
  }

  const double* weight_;
  std::vector<int64_t> ids_;
  int64_t sorted_ = 0;
};

at::Tensor host_copy(const at::Tensor& logits) {
  return logits.detach()
      .to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true)
      .contiguous();
}

bool changes_logits(const SamplingOptions& options) {
  return options.repetition_penalty != 1 || options.presence_penalty != 0 ||
         options.frequency_penalty != 0 || !options.logit_bias.empty();
}

}  // namespace

void check(const SamplingOptions& options, int64_t vocabulary) {
  const auto within = [](const char* name, double value, double least, double most,
                         const char* expected) {
    util::require(std::isfinite(value) && value >= least && value <= most, name, value, expected);
  };
  constexpr double kAny = std::numeric_limits<double>::max();
  within("temperature", options.temperature, 0, kAny, "0 (greedy) or more");
  util::require(options.top_p > 0 && options.top_p <= 1, "top_p", options.top_p,
                "a probability above 0 and up to 1");
  util::require(options.top_k >= 0, "top_k", options.top_k, "0 (all tokens) or more");
  within("min_p", options.min_p, 0, 1, "a fraction from 0 to 1");
  util::require(std::isfinite(options.repetition_penalty) && options.repetition_penalty > 0,
                "repetition_penalty", options.repetition_penalty, "a number above 0");
  within("presence_penalty", options.presence_penalty, -2, 2, "-2 to 2");
  within("frequency_penalty", options.frequency_penalty, -2, 2, "-2 to 2");
  for (const auto& [token, bias] : options.logit_bias) {
    util::require(token >= 0 && token < vocabulary, "logit_bias: token", token,
                  util::concat("0 to ", vocabulary - 1));
    within("logit_bias", bias, -100, 100, "-100 to 100");
  }
}

bool is_plain_greedy(const SamplingOptions& options) {
  return options.temperature == 0 && !changes_logits(options);
}

Sampler::Sampler(const SamplingOptions& options, const std::vector<int64_t>& prompt)
    : options_(options), random_(options.seed) {
  if (options.repetition_penalty != 1)
    for (const int64_t token : prompt) ++prompt_[token];
}

void Sampler::change(float* logits, int64_t size) const {
  const auto known = [size](int64_t token) { return token >= 0 && token < size; };
  for (const auto& [token, bias] : options_.logit_bias)
    if (known(token)) logits[token] += static_cast<float>(bias);
  const auto penalise = [&](int64_t token) {
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
  };
  for (const auto& [token, count] : prompt_)
    if (known(token)) penalise(token);
  for (const auto& [token, count] : output_) {
    if (!prompt_.contains(token)) penalise(token);
    logits[token] -= static_cast<float>(options_.presence_penalty +
                                        options_.frequency_penalty * static_cast<double>(count));
  }
}

int64_t Sampler::sample(const at::Tensor& logits) {
  at::Tensor row = logits;
  std::optional<int64_t> best = kernels::argmax(row);
  if (best && changes_logits(options_)) {
    row = host_copy(logits);
    change(row.mutable_data_ptr<float>(), row.numel());
    best = kernels::argmax(row);
  }
  if (!best) return -1;
  const int64_t chosen = options_.temperature > 0 ? draw(row, *best) : *best;
  ++output_[chosen];
  return chosen;
}

int64_t Sampler::draw(const at::Tensor& logits, int64_t best) {
  const at::Tensor row = logits.to(at::kCPU, at::kFloat).contiguous();
  const float* value = row.const_data_ptr<float>();
  const int64_t size = row.numel();
  std::vector<double> weight(size);  // probabilities, in units of the best one's
  for (int64_t i = 0; i < size; ++i)
    weight[i] = std::exp((static_cast<double>(value[i]) - value[best]) / options_.temperature);
  const auto pick = [&](double total, int64_t count, auto token) {
    double left = std::uniform_real_distribution<double>(0, total)(random_);
    for (int64_t i = 0; i + 1 < count; ++i)
      if ((left -= weight[token(i)]) < 0) return token(i);
    return token(count - 1);
  };
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (options_.top_k == 0 && options_.top_p == 1 && options_.min_p == 0)
    return pick(total, size, [](int64_t i) { return i; });

  Ranking ranking(weight.data(), size);
  int64_t most = size;
  if (options_.top_k > 0 && options_.top_k < size) {
    most = options_.top_k;
    total = 0;
    for (int64_t i = 0; i < most; ++i) total += weight[ranking[i]];
  }
  double kept = 1;  // the best one is always among them
  int64_t count = 1;
  while (count < most && kept < options_.top_p * total && weight[ranking[count]] >= options_.min_p)
    kept += weight[ranking[count++]];
  return pick(kept, count, [&](int64_t i) { return ranking[i]; });
}

LogProbabilities log_probabilities(const at::Tensor& logits, int64_t chosen, int64_t count) {
  const at::Tensor row = logits.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* value = row.const_data_ptr<double>();
  const int64_t size = row.numel();
  const double normaliser = row.logsumexp(0).item<double>();
  LogProbabilities found;
  found.chosen = value[chosen] - normaliser;
  for (int64_t i = 0; i < size; ++i)
    found.rank += value[i] > value[chosen] || (value[i] == value[chosen] && i < chosen);
  Ranking ranking(value, size);
  for (int64_t i = 0; i < std::min(count, size); ++i)
    found.top.emplace_back(ranking[i], value[ranking[i]] - normaliser);
  return found;
}

}  // namespace farskip::engine
