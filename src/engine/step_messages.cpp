#include "engine/step_messages.h"

#include <nlohmann/json.hpp>

namespace farskip::engine {
namespace {

// Arrays without names: CBOR of a few bytes, in which numbers keep all their digits.
using Json = nlohmann::json;

/// Reads an array's elements one after the other.
class Reader {
 public:
  explicit Reader(const Json& array) : array_(array) {}
  const Json& next() { return array_.at(at_++); }
  template <class... Field>
  void read(Field&... fields) {
    (next().get_to(fields), ...);
  }

 private:
  const Json& array_;
  size_t at_ = 0;
};

Json to_json(const SamplingOptions& s) {
  return {s.temperature,
          s.top_p,
          s.seed,
          s.top_k,
          s.min_p,
          s.repetition_penalty,
          s.presence_penalty,
          s.frequency_penalty,
          s.logit_bias};
}

SamplingOptions sampling_from(const Json& json) {
  SamplingOptions s;
  Reader(json).read(s.temperature, s.top_p, s.seed, s.top_k, s.min_p, s.repetition_penalty,
                    s.presence_penalty, s.frequency_penalty, s.logit_bias);
  return s;
}

Json to_json(const News& news) {
  Json submitted = Json::array();
  for (const auto& [id, request, rank] : news.submitted)
    submitted.push_back({id, rank, request.prompt, to_json(request.sampling),
                         request.max_new_tokens, request.stop_tokens,
                         request.log_probabilities.value_or(-1), request.prompt_log_probabilities});
  return {submitted, news.dropped, news.closed};
}

News news_from(const Json& json) {
  News news;
  for (const Json& one : json.at(0)) {
    Submitted submitted;
    Request& request = submitted.request;
    Reader reader(one);
    reader.read(submitted.id, submitted.rank, request.prompt);
    request.sampling = sampling_from(reader.next());
    int64_t log_probabilities = 0;
    reader.read(request.max_new_tokens, request.stop_tokens, log_probabilities,
                request.prompt_log_probabilities);
    if (log_probabilities >= 0) request.log_probabilities = log_probabilities;
    news.submitted.push_back(std::move(submitted));
  }
  json.at(1).get_to(news.dropped);
  json.at(2).get_to(news.closed);
  return news;
}

Json to_json(const Token& token) {
  if (!token.log_probabilities) return token.id;
  const auto& [chosen, rank, top] = *token.log_probabilities;
  return {token.id, chosen, rank, top};
}

Token token_from(const Json& json) {
  if (json.is_number()) return {json.get<int64_t>()};
  Token token;
  LogProbabilities found;
  Reader(json).read(token.id, found.chosen, found.rank, found.top);
  token.log_probabilities = std::move(found);
  return token;
}

// By far the most of them have a token and nothing else.
Json to_json(const Progress& p) {
  Json json = {p.id, p.token ? to_json(*p.token) : Json()};
  if (!p.begun && !p.prompt && !p.finish) return json;
  Json prompt;
  if (p.prompt) {
    prompt = Json::array();
    for (const Token& token : *p.prompt) prompt.push_back(to_json(token));
  }
  json.insert(json.end(), {p.begun ? Json(*p.begun) : Json(), std::move(prompt),
                           p.finish ? Json(static_cast<int>(*p.finish)) : Json(), p.error});
  return json;
}

Progress progress_from(const Json& json) {
  Progress p;
  json.at(0).get_to(p.id);
  if (!json.at(1).is_null()) p.token = token_from(json.at(1));
  if (json.size() == 2) return p;
  if (!json.at(2).is_null()) p.begun = json.at(2).get<int64_t>();
  if (!json.at(3).is_null()) {
    p.prompt.emplace();
    for (const Json& token : json.at(3)) p.prompt->push_back(token_from(token));
  }
  if (!json.at(4).is_null()) p.finish = static_cast<Finish>(json.at(4).get<int>());
  json.at(5).get_to(p.error);
  return p;
}

}  // namespace

std::vector<uint8_t> to_bytes(const News& news) {
  return Json::to_cbor(to_json(news));
}

News news_from(const uint8_t* bytes, int64_t size) {
  return news_from(Json::from_cbor(bytes, bytes + size));
}

std::vector<uint8_t> to_bytes(const Report& report, const News& news) {
  Json progress = Json::array();
  for (const Progress& one : report.progress) progress.push_back(to_json(one));
  return Json::to_cbor({report.idle, report.running, report.pages, report.pages_used,
                        report.preempted, std::move(progress),
                        news.empty() ? Json() : to_json(news)});
}

std::pair<Report, News> report_from(const uint8_t* bytes, int64_t size) {
  const Json json = Json::from_cbor(bytes, bytes + size);
  Report report;
  Reader reader(json);
  reader.read(report.idle, report.running, report.pages, report.pages_used, report.preempted);
  for (const Json& one : reader.next()) report.progress.push_back(progress_from(one));
  const Json& news = reader.next();
  return {std::move(report), news.is_null() ? News() : news_from(news)};
}

}  // namespace farskip::engine
