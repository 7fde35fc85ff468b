// What ranks tell each other between two steps arrives as it was said.
#include "engine/step_messages.h"

#include <gtest/gtest.h>

namespace farskip::engine {
namespace {

const Submitted kSubmitted{.id = uint64_t{1} << 63,
                           .request = {.prompt = {5, 0, 131071},
                                       .sampling = {.temperature = 0.1,
                                                    .top_p = 0.2,
                                                    .seed = ~uint64_t{0},
                                                    .top_k = 3,
                                                    .min_p = 0.4,
                                                    .repetition_penalty = 1.5,
                                                    .presence_penalty = -0.6,
                                                    .frequency_penalty = 1.0 / 3,
                                                    .logit_bias = {{7, -0.8}, {8, 0.9}}},
                                       .max_new_tokens = 10,
                                       .stop_tokens = {11, 12},
                                       .log_probabilities = 0,
                                       .prompt_log_probabilities = true},
                           .rank = 2};

void expect_equal(const News& found, const News& said) {
  EXPECT_EQ(found.dropped, said.dropped);
  EXPECT_EQ(found.closed, said.closed);
  ASSERT_EQ(found.submitted.size(), said.submitted.size());
  for (size_t i = 0; i < said.submitted.size(); ++i) {
    const Submitted &a = found.submitted[i], &b = said.submitted[i];
    EXPECT_EQ(std::tie(a.id, a.rank), std::tie(b.id, b.rank));
    const Request &r = a.request, &s = b.request;
    EXPECT_EQ(std::tie(r.prompt, r.max_new_tokens, r.stop_tokens, r.log_probabilities,
                       r.prompt_log_probabilities),
              std::tie(s.prompt, s.max_new_tokens, s.stop_tokens, s.log_probabilities,
                       s.prompt_log_probabilities));
    const SamplingOptions &p = r.sampling, &q = s.sampling;
    EXPECT_EQ(std::tie(p.temperature, p.top_p, p.seed, p.top_k, p.min_p, p.repetition_penalty,
                       p.presence_penalty, p.frequency_penalty, p.logit_bias),
              std::tie(q.temperature, q.top_p, q.seed, q.top_k, q.min_p, q.repetition_penalty,
                       q.presence_penalty, q.frequency_penalty, q.logit_bias));
  }
}

void expect_equal(const Token& found, const Token& said) {
  EXPECT_EQ(found.id, said.id);
  ASSERT_EQ(found.log_probabilities.has_value(), said.log_probabilities.has_value());
  if (!said.log_probabilities) return;
  const LogProbabilities &a = *found.log_probabilities, &b = *said.log_probabilities;
  EXPECT_EQ(std::tie(a.chosen, a.rank, a.top), std::tie(b.chosen, b.rank, b.top));
}

void expect_equal(const Progress& found, const Progress& said) {
  EXPECT_EQ(std::tie(found.id, found.begun, found.finish, found.error),
            std::tie(said.id, said.begun, said.finish, said.error));
  ASSERT_EQ(found.token.has_value(), said.token.has_value());
  if (said.token) expect_equal(*found.token, *said.token);
  ASSERT_EQ(found.prompt.has_value(), said.prompt.has_value());
  if (!said.prompt) return;
  ASSERT_EQ(found.prompt->size(), said.prompt->size());
  for (size_t i = 0; i < said.prompt->size(); ++i)
    expect_equal((*found.prompt)[i], (*said.prompt)[i]);
}

const News kNews[] = {
    {},
    {.dropped = {3, 4}},
    {.submitted = {kSubmitted, {.id = 1, .request = {.prompt = {2}}}}, .closed = true}};

TEST(StepMessages, NewsArrivesAsItWasSaid) {
  for (const News& said : kNews) {
    const auto bytes = to_bytes(said);
    expect_equal(news_from(bytes.data(), std::ssize(bytes)), said);
  }
}

TEST(StepMessages, ReportsArriveAsTheyWereSaid) {
  const Token plain{9}, scored{4, LogProbabilities{-1.0 / 7, 2, {{5, -0.1}, {4, -1.0 / 7}}}};
  const Report said{.idle = false,
                    .running = 1,
                    .pages = 2,
                    .pages_used = 3,
                    .preempted = 4,
                    .progress = {{.id = 1, .token = plain},
                                 {.id = 2, .begun = 16, .token = scored},
                                 {.id = 3, .begun = 0, .prompt = std::vector{scored, plain}},
                                 {.id = 4, .prompt = std::vector<Token>{}},
                                 {.id = 5, .finish = Finish::failed, .error = "why"},
                                 {.id = 6}}};
  for (const News& news : kNews) {
    const auto bytes = to_bytes(said, news);
    const auto [found, with] = report_from(bytes.data(), std::ssize(bytes));
    expect_equal(with, news);
    EXPECT_EQ(std::tie(found.idle, found.running, found.pages, found.pages_used, found.preempted),
              std::tie(said.idle, said.running, said.pages, said.pages_used, said.preempted));
    ASSERT_EQ(found.progress.size(), said.progress.size());
    for (size_t i = 0; i < said.progress.size(); ++i)
      expect_equal(found.progress[i], said.progress[i]);
  }
}

}  // namespace
}  // namespace farskip::engine
