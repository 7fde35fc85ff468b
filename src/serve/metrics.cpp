#include "serve/metrics.h"

#include <algorithm>
#include <cstdio>

#include "util/error.h"

namespace farskip::serve {
namespace {

using util::concat;

std::string header(const std::string& name, const char* type, const std::string& help) {
  return concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string counter(const std::string& name, int64_t value, const std::string& help) {
  return concat(header(name, "counter", help), name, " ", value, "\n");
}

std::string seconds(const std::string& name, double value, const std::string& help) {
  return concat(header(name, "counter", help), name, " ", number(value), "\n");
}

std::string gauge(const std::string& name, int64_t value, const std::string& help) {
  return concat(header(name, "gauge", help), name, " ", value, "\n");
}

/// What the engine says of itself.
std::string engine_lines(const engine::EngineFigures& engine) {
  return concat(
      gauge("farskip_sequences_running", engine.running, "Sequences that are worked on."),
      gauge("farskip_sequences_queued", engine.queued, "Sequences that wait."),
      gauge("farskip_kv_pages", engine.pages, "Pages of the KV cache."),
      gauge("farskip_kv_pages_used", engine.pages_used, "Of them, held by running sequences."),
      gauge("farskip_kv_page_tokens", engine.page_tokens, "Tokens a page."),
      counter("farskip_steps_total", engine.steps, "Forward passes."),
      counter("farskip_prompt_tokens_total", engine.prompt_tokens, "Tokens of prompts."),
      counter("farskip_generated_tokens_total", engine.new_tokens, "Tokens generated."),
      counter("farskip_prefix_reused_tokens_total", engine.reused_tokens,
              "Tokens of prompts whose keys and values were there already."),
      counter("farskip_preemptions_total", engine.preempted,
              "Times a sequence gave its memory up, to be computed again later."));
}

/// What became of messages, all together and by their kind.
std::string communication_lines(const measure::StepTotals& steps) {
  const auto by_message = [&](const std::string& name, const auto& value, const std::string& help) {
    std::string lines = header(name, "counter", help);
    for (const auto& [part, traffic] : steps.by_message)
      lines += concat(name, "{message=\"", comm::to_string(part), "\"} ", value(traffic), "\n");
    return lines;
  };
  return concat(
      gauge("farskip_ranks", steps.ranks, "Ranks that make the passes."),
      seconds("farskip_step_seconds_total", steps.seconds, "Time of forward passes."),
      seconds("farskip_communication_seconds_total", steps.all.communication,
              "Time of passes in which a message was in flight."),
      seconds("farskip_communication_exposed_seconds_total", steps.all.exposed,
              "Of that, what compute stood waiting."),
      by_message(
          "farskip_messages_total", [](const auto& t) { return t.messages; },
          "Messages of passes."),
      by_message(
          "farskip_message_bytes_total", [](const auto& t) { return t.bytes; },
          "Bytes sent to other ranks."),
      by_message(
          "farskip_message_seconds_total", [](const auto& t) { return number(t.communication); },
          "Time in which a message of the kind was in flight."),
      by_message(
          "farskip_message_exposed_seconds_total", [](const auto& t) { return number(t.exposed); },
          "Of that, what compute stood waiting."));
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::observe(double seconds) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), seconds);
  ++counts_[bucket - bounds_.begin()];
  sum_ += seconds;
}

std::string Histogram::exposition(const std::string& name, const std::string& help) const {
  std::string lines = header(name, "histogram", help);
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    const std::string bound = i < bounds_.size() ? number(bounds_[i]) : "+Inf";
    lines += concat(name, "_bucket{le=\"", bound, "\"} ", count, "\n");
  }
  return concat(lines, name, "_sum ", number(sum_), "\n", name, "_count ", count, "\n");
}

Metrics::Metrics()
    : queued_({0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60}),
      first_token_({0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}),
      between_tokens_({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}),
      duration_({0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}) {}

void Metrics::request(const std::string& endpoint, int status, double seconds) {
  const std::lock_guard lock(mutex_);
  ++requests_[{endpoint, status}];
  duration_.observe(seconds);
}

void Metrics::between_tokens(double seconds) {
  const std::lock_guard lock(mutex_);
  between_tokens_.observe(seconds);
}

void Metrics::finished(const engine::Outcome& outcome) {
  const std::lock_guard lock(mutex_);
  ++finished_.at(static_cast<size_t>(outcome.finish));
  queued_.observe(outcome.queued_ms / 1000);
  if (outcome.new_tokens > 0) first_token_.observe(outcome.ttft_ms / 1000);
}

std::string Metrics::exposition(const engine::EngineFigures& engine,
                                const measure::StepTotals& steps) const {
  const std::lock_guard lock(mutex_);
  std::string text = header("farskip_http_requests_total", "counter", "Answers, by their status.");
  for (const auto& [key, count] : requests_)
    text += concat("farskip_http_requests_total{endpoint=\"", key.first, "\",status=\"", key.second,
                   "\"} ", count, "\n");
  text += header("farskip_sequences_total", "counter", "Sequences that ended, by why.");
  for (size_t i = 0; i < finished_.size(); ++i)
    text += concat("farskip_sequences_total{finish=\"", kFinishes[i], "\"} ", finished_[i], "\n");
  text += engine_lines(engine) + communication_lines(steps);
  text += queued_.exposition("farskip_queue_seconds", "From submission to the first work on it.");
  text += first_token_.exposition("farskip_time_to_first_token_seconds",
                                  "From submission to the first token.");
  text += between_tokens_.exposition("farskip_time_between_tokens_seconds",
                                     "From a token of a sequence to its next.");
  return text +
         duration_.exposition("farskip_request_seconds", "From a request to its answer's end.");
}

}  // namespace farskip::serve
