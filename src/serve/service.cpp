#include "serve/service.h"

#include <algorithm>
#include <ctime>
#include <random>

#include "io/text.h"
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/page.h"
#include "serve/tokenize.h"

namespace farskip::serve {
namespace {

using io::Json, util::concat;

constexpr const char* kModels = "/v1/models";
constexpr const char* kPrefillPath = "/timeline/prefill";
constexpr const char* kDecodePath = "/timeline/decode";

/// In a time that does not tell how much of it is right.
bool equal(const std::string& found, const std::string& expected) {
  unsigned difference = found.size() != expected.size();
  for (size_t i = 0; i < found.size(); ++i)
    difference |= static_cast<unsigned char>(found[i] ^ expected[i % expected.size()]);
  return difference == 0;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return tolower(c); });
  return text;
}

/// "application/json", whatever parameters follow.
bool is_json(std::string type) {
  type.resize(std::min(type.size(), type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  return lower(std::move(type)) == "application/json";
}

/// The key of "Bearer KEY", the scheme in any case; nothing of another scheme.
std::optional<std::string> bearer(const std::string& authorization) {
  const size_t end = std::min(authorization.find(' '), authorization.size());
  if (lower(authorization.substr(0, end)) != "bearer") return std::nullopt;
  return authorization.substr(
      std::min(authorization.find_first_not_of(' ', end), authorization.size()));
}

/// Nothing of a page comes from elsewhere. `ancestors`: who may show it in a frame.
HttpResponse page_response(std::string page, const std::string& ancestors) {
  return {200,
          "text/html; charset=utf-8",
          std::move(page),
          {{"Cache-Control", "no-store"},
           {"Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "connect-src 'self'; frame-src 'self'; img-src data:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors " +
                ancestors}}};
}

/// Without what follows /v1/models.
std::string_view route_of(const HttpRequest& request) {
  const bool is_model = request.path.starts_with(std::string(kModels) + "/");
  return is_model ? std::string_view(kModels) : std::string_view(request.path);
}

}  // namespace

struct Service::Route {
  std::string_view method, path;
  bool needs_key;
  Reply (Service::*answer)(const HttpRequest&);
};

const Service::Route Service::kRoutes[] = {
    {"POST", "/v1/completions", true, &Service::completions},
    {"POST", "/v1/chat/completions", true, &Service::chat},
    {"GET", kModels, true, &Service::models},
    {"POST", "/tokenize", true, &Service::tokenize_text},
    {"POST", "/detokenize", true, &Service::detokenize_tokens},
    {"GET", "/tokenizer_info", true, &Service::tokenizer_facts},
    {"GET", "/health", false, &Service::health},
    {"GET", "/ping", false, &Service::health},
    {"GET", "/metrics", false, &Service::metrics},
    {"GET", kPrefillPath, false, &Service::timeline},
    {"GET", kDecodePath, false, &Service::timeline},
    {"GET", "/", false, &Service::page},
};

Service::Service(ServedModel model, Backend& backend, ServiceOptions options)
    : model_(std::move(model)),
      backend_(backend),
      options_(std::move(options)),
      admission_(options_.max_sequences),
      created_(std::time(nullptr)) {
  std::random_device random;
  char prefix[24];
  std::snprintf(prefix, sizeof prefix, "%08x%08x", random(), random());
  id_prefix_ = prefix;
}

Reply Service::handle(const HttpRequest& request) {
  try {
    return route(request);
  } catch (const ApiError& error) {
    return {error_response(error)};
  } catch (const std::exception& error) {
    return {error_response(ApiError(500, io::printable(error.what(), 240)))};
  }
}

Reply Service::route(const HttpRequest& request) {
  const auto path = route_of(request);
  const auto found = std::find_if(std::begin(kRoutes), std::end(kRoutes),
                                  [&](const Route& route) { return route.path == path; });
  if (found == std::end(kRoutes))
    throw ApiError(404,
                   concat("Unknown request URL: ", io::printable(request.method), " ",
                          io::printable(request.path)),
                   {}, "unknown_url");
  if (request.method == "OPTIONS" && !request.asked_method.empty() &&
      !options_.allowed_origins.empty())
    return preflight(request, *found);
  if (request.method != found->method && !(request.method == "HEAD" && found->method == "GET")) {
    Reply reply{error_response(ApiError(405, concat("method: found ", io::printable(request.method),
                                                    ", expected ", found->method)))};
    reply.response.headers.emplace_back("Allow", found->method == "GET" ? "GET, HEAD" : "POST");
    return reply;
  }
  if (found->needs_key) authorize(request);
  if (found->method == "POST" && !is_json(request.content_type))
    throw ApiError(415, concat("Content-Type: found ", io::in_quotes(request.content_type),
                               ", expected \"application/json\""));
  if (const std::string coding = lower(request.content_encoding);
      !coding.empty() && coding != "identity") {
    Reply reply{
        error_response(ApiError(415, concat("Content-Encoding: found ", io::in_quotes(coding),
                                            ", expected a body that is not compressed")))};
    reply.response.headers.emplace_back("Accept-Encoding", "identity");
    return reply;
  }
  return (this->*found->answer)(request);
}

void Service::authorize(const HttpRequest& request) const {
  if (options_.api_key.empty()) return;
  const auto key = bearer(request.authorization);
  if (key && equal(*key, options_.api_key)) return;
  throw ApiError(401,
                 request.authorization.empty()
                     ? "Authorization: found no such header, expected \"Bearer KEY\""
                 : key ? "Authorization: found another API key than the server's, expected its own"
                       : "Authorization: found another scheme, expected \"Bearer KEY\"",
                 {}, "invalid_api_key");
}

Headers Service::sharing(const std::string& origin) const {
  const auto& allowed = options_.allowed_origins;
  const auto is_allowed = [&](const std::string& who) {
    return std::find(allowed.begin(), allowed.end(), who) != allowed.end();
  };
  if (allowed.empty() || origin.empty()) return {};
  if (is_allowed("*"))
    return {{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Expose-Headers", "Retry-After"}};
  if (!is_allowed(origin)) return {{"Vary", "Origin"}};
  return {{"Access-Control-Allow-Origin", origin},
          {"Access-Control-Expose-Headers", "Retry-After"},
          {"Vary", "Origin"}};
}

Reply Service::preflight(const HttpRequest& request, const Route& route) const {
  const Headers sharing = this->sharing(request.origin);
  if (sharing.size() < 2)
    throw ApiError(403, concat("Origin: found ", io::in_quotes(request.origin),
                               ", expected one of --allowed-origins"));
  Reply reply{{200, "text/plain", "", {{"Access-Control-Max-Age", "600"}}}};
  reply.response.headers.emplace_back("Access-Control-Allow-Methods", route.method);
  if (!request.asked_headers.empty())
    reply.response.headers.emplace_back("Access-Control-Allow-Headers", request.asked_headers);
  return reply;
}

Reply Service::completions(const HttpRequest& request) {
  return generate(parse_completion_request(request.body, model_));
}

Reply Service::chat(const HttpRequest& request) {
  return generate(parse_chat_request(request.body, model_));
}

Reply Service::generate(GenerationRequest request) {
  if (stopping_) throw ApiError(503, "the server is stopping", {}, "stopping");
  if (const auto failure = backend_.failure())
    throw ApiError(503, "the engine failed: " + *failure, {}, "engine_failed");
  const auto sequences = static_cast<int64_t>(request.prompts.size()) * request.choices;
  if (sequences > admission_.most())
    refuse_field("prompt",
                 concat(request.prompts.size(), " prompts, ", request.choices, " choices each"),
                 concat("at most ", admission_.most(), " sequences in one request"));
  Reply reply;
  reply.place = admission_.enter(sequences);
  if (!reply.place)
    throw ApiError(429,
                   concat("the queue is full: ", admission_.most(), " sequences are under way"), {},
                   "queue_full");
  const bool chat = request.endpoint == GenerationRequest::Endpoint::chat;
  AnswerHead head{request.endpoint, concat(chat ? "chatcmpl-" : "cmpl-", id_prefix_, ++answers_),
                  std::time(nullptr), request.model};
  reply.response.content_type = "text/event-stream; charset=utf-8";
  reply.response.headers.emplace_back("Cache-Control", "no-cache");
  reply.generation = std::make_unique<Generation>(backend_, model_.tokenizer, metrics_,
                                                  std::move(request), std::move(head));
  return reply;
}

Reply Service::models(const HttpRequest& request) {
  Json list = Json::array();
  for (const std::string& name : model_.names) {
    const Json model = {{"id", name},
                        {"object", "model"},
                        {"created", created_},
                        {"owned_by", "farskip"},
                        {"root", model_.names.front()},
                        {"parent", nullptr},
                        {"max_model_len", model_.max_sequence}};
    if (request.path == concat(kModels, "/", name)) return {json_response(model)};
    list.push_back(model);
  }
  if (request.path != kModels)
    throw ApiError(
        404,
        concat("model: found ", io::in_quotes(request.path.substr(std::string(kModels).size() + 1)),
               ", expected ", io::in_quotes(model_.names.front())),
        "model", "model_not_found");
  return {json_response({{"object", "list"}, {"data", list}})};
}

Reply Service::tokenize_text(const HttpRequest& request) {
  return {json_response(tokenize(request.body, model_))};
}

Reply Service::detokenize_tokens(const HttpRequest& request) {
  return {json_response(detokenize(request.body, model_))};
}

Reply Service::tokenizer_facts(const HttpRequest&) {
  return {json_response(tokenizer_info(model_))};
}

Reply Service::health(const HttpRequest&) {
  if (const auto failure = backend_.failure())
    throw ApiError(503, "the engine failed: " + *failure, {}, "engine_failed");
  return {json_response({{"status", stopping_ ? "stopping" : "ok"}})};
}

Reply Service::metrics(const HttpRequest&) {
  return {{200, "text/plain; version=0.0.4; charset=utf-8",
           metrics_->exposition(backend_.figures(), backend_.steps().totals())}};
}

Reply Service::timeline(const HttpRequest& request) {
  const auto kind = request.path == kPrefillPath ? measure::StepRecorder::Kind::prefill
                                                 : measure::StepRecorder::Kind::decode;
  return {page_response(timeline_page(backend_.steps(), kind), "'self'")};
}

Reply Service::page(const HttpRequest&) {
  return {
      page_response(chat_page(model_.names.front(), model_.chat_template.has_value()), "'none'")};
}

void Service::ended(const HttpRequest& request, int status, double seconds) {
  const auto path = route_of(request);
  const bool known = std::any_of(std::begin(kRoutes), std::end(kRoutes),
                                 [&](const Route& route) { return route.path == path; });
  metrics_->request(known ? std::string(path) : "other", status, seconds);
}

}  // namespace farskip::serve
