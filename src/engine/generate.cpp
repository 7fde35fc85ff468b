#include "engine/generate.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>

#include "util/error.h"

namespace farskip::engine {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// A sequence that is still being continued.
struct Running {
  size_t index;  ///< of the prompt, and its slot in the cache
  int64_t length;
  int64_t last_token;
};

/// Index of every segment's last token.
at::Tensor last_rows(const model::Batch& batch) {
  std::vector<int64_t> rows;
  int64_t row = 0;
  for (const model::Segment& segment : batch.segments) rows.push_back((row += segment.count) - 1);
  return at::tensor(rows, at::kLong).to(batch.tokens.device());
}

model::Batch next_tokens(const std::vector<Running>& running, at::Device device) {
  std::vector<std::vector<int64_t>> rows;
  std::vector<int64_t> past;
  for (const Running& sequence : running) {
    rows.push_back({sequence.last_token});
    past.push_back(sequence.length);
  }
  model::Batch batch = model::Batch::rows(rows, past, device);
  for (size_t i = 0; i < running.size(); ++i)
    batch.segments[i].slot = static_cast<int64_t>(running[i].index);
  return batch;
}

}  // namespace

std::vector<Generated> generate(const model::Model& model,
                                const std::vector<std::vector<int64_t>>& prompts,
                                const GenerateOptions& options, const OnToken& on_token) {
  check(options.sampling, model.config.vocabulary);
  util::require(!prompts.empty(), "prompts", "none", "at least one");
  util::require(options.max_new_tokens > 0, "--max-new-tokens", options.max_new_tokens,
                "a positive number");
  const c10::InferenceMode inference;
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    util::require(!prompt.empty(), "prompt", "no tokens", "at least one token");
    longest = std::max<int64_t>(longest, prompt.size());
  }
  model::KvCache cache(model.config, prompts.size(), longest + options.max_new_tokens,
                       at::TensorOptions(model.dtype).device(model.device));
  schedule::ForwardOptions forward{
      .connectivity = options.connectivity, .ranks = options.ranks, .cache = &cache};

  std::vector<Generated> results(prompts.size());
  std::vector<Running> running;
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < prompts.size(); ++i) {
    running.push_back({i, 0, 0});
    SamplingOptions own = options.sampling;
    own.seed += i;
    samplers.emplace_back(own, prompts[i]);
  }

  model::Batch batch =
      model::Batch::rows(prompts, std::vector<int64_t>(prompts.size(), 0), model.device);
  const bool greedy = is_plain_greedy(options.sampling);
  const auto start = Clock::now();
  auto first_token = start;
  for (bool prefill = true; !running.empty(); prefill = false) {
    forward.rows = batch.single_tokens() ? at::Tensor() : last_rows(batch);
    const at::Tensor hidden = schedule::forward(model, batch, forward);
    at::Tensor logits;
    std::vector<int64_t> best;
    if (greedy)
      best = schedule::best_tokens(model, hidden, options.ranks);
    else
      logits = schedule::logits(model, hidden, options.ranks);
    std::vector<Running> going_on;
    for (size_t row = 0; row < running.size(); ++row) {
      Running sequence = running[row];
      Generated& result = results[sequence.index];
      sequence.length += batch.segments[row].count;
      sequence.last_token = greedy ? best[row] : samplers[sequence.index].sample(logits[row]);
      const auto now = Clock::now();
      if (prefill) {
        first_token = now;
        result.ttft_ms = milliseconds(now - start);
      }
      result.stopped = std::find(options.stop_tokens.begin(), options.stop_tokens.end(),
                                 sequence.last_token) != options.stop_tokens.end();
      if (result.stopped) continue;
      result.tokens.push_back(sequence.last_token);
      const auto count = static_cast<int64_t>(result.tokens.size());
      if (count > 1) result.tbt_ms = milliseconds(now - first_token) / (count - 1);
      if (on_token && !on_token(sequence.index, sequence.last_token)) {
        result.stopped = true;
      } else if (count < options.max_new_tokens) {
        going_on.push_back(sequence);
      }
    }
    running = std::move(going_on);
    if (!running.empty()) batch = next_tokens(running, model.device);
  }
  return results;
}

}  // namespace farskip::engine
