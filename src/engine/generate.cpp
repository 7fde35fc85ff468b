#include "engine/generate.h"

#include <algorithm>

#include "engine/engine.h"
#include "util/error.h"

namespace farskip::engine {
namespace {

/// Keeps what a sequence is told.
class Collector : public Listener {
 public:
  Collector(size_t index, const OnToken& on_token) : index_(index), on_token_(on_token) {}

  bool on_token(const Token& token) override {
    result.tokens.push_back(token.id);
    return !on_token_ || on_token_(index_, token.id);
  }
  void on_finish(const Outcome& outcome) override {
    result.stopped = outcome.finish == Finish::stop;
    result.ttft_ms = outcome.ttft_ms;
    result.tbt_ms = outcome.tbt_ms;
    error = outcome.error;
  }

  Generated result;
  std::string error;

 private:
  size_t index_;
  const OnToken& on_token_;
};

/// How many a prompt may be followed by.
int64_t new_tokens(const std::vector<int64_t>& prompt, const GenerateOptions& options) {
  if (!options.max_length) return options.max_new_tokens;
  const int64_t size = std::ssize(prompt);
  util::require(*options.max_length > size, "max_length", *options.max_length,
                util::concat("more than the ", size, " tokens of the prompt"));
  return *options.max_length - size;
}

}  // namespace

std::vector<Generated> generate(const model::Model& model,
                                const std::vector<std::vector<int64_t>>& prompts,
                                const GenerateOptions& options, const OnToken& on_token) {
  util::require(!prompts.empty(), "prompts", "none", "at least one");
  util::require(options.max_new_tokens > 0, "--max-new-tokens", options.max_new_tokens,
                "a positive number");
  int64_t all = 0, longest = 0;
  for (const auto& prompt : prompts) {
    all += std::ssize(prompt);
    longest = std::max(longest, std::ssize(prompt) + new_tokens(prompt, options));
  }
  const int64_t count = std::ssize(prompts);
  EngineOptions engine_options{.connectivity = options.connectivity,
                               .max_sequences = count,
                               .max_batch_tokens = std::max(all, count),
                               .reuse_prefixes = false,
                               .ranks = options.ranks,
                               .group = options.group};
  // Who goes to the rank with the least has at most an equal share of the others beside it.
  const int64_t ranks = engine_options.own_sequences() ? options.group.size() : 1;
  engine_options.cache_bytes = cache_bytes(model, (count - 1 + ranks - 1) / ranks + 1, longest);
  Engine engine(model, std::move(engine_options));
  if (options.group.rank() > 0) {
    engine.follow();
    return {};
  }
  std::vector<std::shared_ptr<Collector>> collectors;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Request request{prompts[i], options.sampling, new_tokens(prompts[i], options),
                    options.stop_tokens};
    request.sampling.seed += i;
    collectors.push_back(std::make_shared<Collector>(i, on_token));
    engine.submit(std::move(request), collectors.back());
  }
  while (engine.step()) {
  }
  engine.close();
  engine.step();  // which lets the other ranks go
  std::vector<Generated> results;
  for (const auto& collector : collectors) {
    if (!collector->error.empty()) throw Error(collector->error);
    results.push_back(std::move(collector->result));
  }
  return results;
}

}  // namespace farskip::engine
