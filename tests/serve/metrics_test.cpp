#include "serve/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace farskip::serve {
namespace {

using testing::HasSubstr;

TEST(Metrics, IsPrometheusText) {
  Metrics metrics;
  metrics.request("/v1/completions", 200, 0.3);
  metrics.request("/v1/completions", 200, 700);
  metrics.request("other", 404, 0.001);
  for (const double seconds : {0.0005, 0.001, 0.002, 9.0}) metrics.between_tokens(seconds);
  metrics.finished(
      {.finish = engine::Finish::length, .new_tokens = 3, .queued_ms = 5, .ttft_ms = 30});
  metrics.finished({.finish = engine::Finish::cancelled});
  measure::StepTotals steps{
      .ranks = 2, .seconds = 4, .all = {.communication = 1.5, .exposed = 0.25}};
  steps.by_message[comm::MessageName::Part::merged] = {6, 4096, 1.25, 0.125};
  const std::string text = metrics.exposition({.queued = 2,
                                               .running = 3,
                                               .pages = 10,
                                               .pages_used = 4,
                                               .page_tokens = 16,
                                               .steps = 7,
                                               .prompt_tokens = 100,
                                               .new_tokens = 50,
                                               .reused_tokens = 20,
                                               .preempted = 1},
                                              steps);
  for (const char* line :
       {"farskip_http_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 2\n",
        "farskip_http_requests_total{endpoint=\"other\",status=\"404\"} 1\n",
        "farskip_sequences_total{finish=\"length\"} 1\n",
        "farskip_sequences_total{finish=\"cancelled\"} 1\n",
        "farskip_sequences_total{finish=\"failed\"} 0\n", "farskip_sequences_queued 2\n",
        "farskip_sequences_running 3\n", "farskip_kv_pages 10\n", "farskip_kv_pages_used 4\n",
        "farskip_steps_total 7\n", "farskip_prompt_tokens_total 100\n",
        "farskip_generated_tokens_total 50\n", "farskip_prefix_reused_tokens_total 20\n",
        "farskip_preemptions_total 1\n", "farskip_ranks 2\n", "farskip_step_seconds_total 4\n",
        "farskip_communication_seconds_total 1.5\n",
        "farskip_communication_exposed_seconds_total 0.25\n",
        "farskip_messages_total{message=\"attention and MLP\"} 6\n",
        "farskip_message_bytes_total{message=\"attention and MLP\"} 4096\n",
        "farskip_message_seconds_total{message=\"attention and MLP\"} 1.25\n",
        "farskip_message_exposed_seconds_total{message=\"attention and MLP\"} 0.125\n",
        // A bound belongs to its bucket; buckets add up.
        "farskip_time_between_tokens_seconds_bucket{le=\"0.001\"} 2\n",
        "farskip_time_between_tokens_seconds_bucket{le=\"0.0025\"} 3\n",
        "farskip_time_between_tokens_seconds_bucket{le=\"2.5\"} 3\n",
        "farskip_time_between_tokens_seconds_bucket{le=\"+Inf\"} 4\n",
        "farskip_time_between_tokens_seconds_sum 9.0035\n",
        "farskip_time_between_tokens_seconds_count 4\n",
        "farskip_time_to_first_token_seconds_bucket{le=\"0.05\"} 1\n",
        "farskip_time_to_first_token_seconds_count 1\n",
        "farskip_queue_seconds_bucket{le=\"0.01\"} 2\n",
        "farskip_request_seconds_bucket{le=\"600\"} 2\n", "farskip_request_seconds_count 3\n"})
    EXPECT_THAT(text, HasSubstr(line));
  // Every line is a comment or a sample, and every family is described once, before its samples.
  const std::string line =
      "(# (HELP|TYPE) farskip_[a-z_]+ [^\n]+|"
      "farskip_[a-z_]+([{][a-z]+=\"[^\"\n]*\"(,[a-z]+=\"[^\"\n]*\")?[}])? [0-9.e+-]+)\n";
  EXPECT_THAT(text, testing::MatchesRegex("(" + line + ")+"));
}

}  // namespace
}  // namespace farskip::serve
