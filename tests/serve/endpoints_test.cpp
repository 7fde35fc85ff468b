// What the service has beside completions and chats, and whom it lets in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/support.h"
#include "serve/tokenize.h"
#include "text/support.h"

namespace farskip::serve {
namespace {

using io::Json;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Endpoints, Tokenizes) {
  Served served;
  const Json found =
      served.post("/tokenize", {{"prompt", kText}, {"return_token_strs", true}}).json();
  EXPECT_EQ(found["tokens"].get<std::vector<int64_t>>(), ids(kText));
  EXPECT_EQ(found["count"], ids(kText).size());
  EXPECT_EQ(found["max_model_len"], 4096);
  std::string all;
  for (const Json& text : found["token_strs"]) all += text;
  EXPECT_EQ(all, kText);
  EXPECT_EQ(served.post("/detokenize", {{"tokens", found["tokens"]}}).json()["prompt"], kText);
  const Json chat = served.post("/tokenize", chat_body()).json();
  EXPECT_EQ(chat["tokens"].get<std::vector<int64_t>>(),
            demo_model().tokenizer.encode("<|user|>\nWhy so?\n<|assistant|>\n"));
  const Json open =
      served
          .post("/tokenize",
                chat_body({{"add_generation_prompt", false}, {"add_special_tokens", true}}))
          .json();
  EXPECT_EQ(open["tokens"], demo_model().tokenizer.encode("<|user|>\nWhy so?\n", true));
  EXPECT_EQ(served.post("/tokenize", Json::object()).status, 400);
  EXPECT_EQ(served.post("/tokenize", chat_body({{"prompt", "a"}})).status, 400);
  EXPECT_EQ(served.post("/detokenize", {{"tokens", {4096}}}).status, 400);
  EXPECT_EQ(served.post("/detokenize", Json::object()).json()["error"]["param"], "tokens");
}

TEST(Endpoints, TellsOfItsTokenizer) {
  const Json found = Served().get("/tokenizer_info").json();
  EXPECT_EQ(found["eos_token"], "<|endoftext|>");
  EXPECT_EQ(found["pad_token"], "<|endoftext|>");
  EXPECT_EQ(found["bos_token"], nullptr);
  EXPECT_THAT(found["chat_template"].get<std::string>(), HasSubstr("<|assistant|>"));
  ServedModel model = demo_model();  // config.json knows an end token where nothing else does
  const text::ModelFolder folder("bare");
  std::filesystem::copy(FARSKIP_SOURCE_DIR "/data/demo/tokenizer.json", folder.path());
  model.tokenizer = text::Tokenizer::open(folder.path());
  model.chat_template.reset();
  const Json bare = tokenizer_info(model);
  EXPECT_EQ(bare["eos_token"], "<|endoftext|>");
  EXPECT_EQ(bare["chat_template"], nullptr);
}

TEST(Endpoints, TellsOfItself) {
  Served served;
  const Json models = served.get("/v1/models").json();
  EXPECT_EQ(models["object"], "list");
  ASSERT_EQ(models["data"].size(), 2u);
  EXPECT_EQ(models["data"][0]["id"], "demo");
  EXPECT_EQ(models["data"][1]["max_model_len"], 4096);
  EXPECT_EQ(served.get("/v1/models/alias").json()["id"], "alias");
  EXPECT_EQ(served.get("/v1/models/gpt-4").status, 404);
  EXPECT_THAT(served.get("/v1/models/a/b").body, HasSubstr("found \\\"a/b\\\""));
  EXPECT_EQ(served.get("/health").status, 200);
  const auto page = served.get("/");
  EXPECT_THAT(page.headers.at("content-type"), StartsWith("text/html"));
  EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("default-src 'none'"));
  // Nothing comes from elsewhere.
  EXPECT_EQ(page.body.find("http"), std::string::npos);

  served.post("/v1/completions", {{"prompt", kText}, {"max_tokens", 5}});
  served.post("/v1/completions", {{"prompt", kText}, {"max_tokens", -5}});
  ASSERT_TRUE(eventually([&] {
    const std::string text = served.get("/metrics").body;
    return text.find("{endpoint=\"/v1/completions\",status=\"200\"} 1\n") != text.npos &&
           text.find("{endpoint=\"/v1/completions\",status=\"400\"} 1\n") != text.npos;
  }));
  const auto metrics = served.get("/metrics");
  EXPECT_EQ(metrics.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(metrics.body, HasSubstr("farskip_time_to_first_token_seconds_count 1\n"));
  EXPECT_THAT(metrics.body, HasSubstr("farskip_time_between_tokens_seconds_count 4\n"));
  EXPECT_THAT(metrics.body, HasSubstr("endpoint=\"/v1/models\",status=\"404\"} 2\n"));
}

TEST(Endpoints, DrawsTheLastPasses) {
  Served served;
  EXPECT_THAT(served.get("/timeline/decode").body, HasSubstr("None yet"));
  schedule::PartLog* parts = served.backend.steps().begin_step();
  ASSERT_NE(parts, nullptr);
  parts->enter(schedule::Part::attend, 3);
  served.backend.steps().end_step(/*sequences=*/2, /*tokens=*/2);
  const auto decode = served.get("/timeline/decode");
  for (const char* text : {"layer 3 attention b", "Pass 1: 2 sequences, 2 tokens.", "One rank"})
    EXPECT_THAT(decode.body, HasSubstr(text));
  EXPECT_THAT(decode.headers.at("content-security-policy"), HasSubstr("frame-ancestors 'self'"));
  EXPECT_THAT(served.get("/timeline/prefill").body, HasSubstr("None yet"));
  EXPECT_EQ(served.get("/timeline").status, 404);
}

TEST(Endpoints, AsksForItsKey) {
  Served served({.api_key = "secret"});
  const std::string body = R"({"prompt": "a"})";
  const std::pair<std::string, int> cases[] = {{"", 401},
                                               {"Authorization: Bearer \r\n", 401},
                                               {"Authorization: Bearer secre\r\n", 401},
                                               {"Authorization: Bearer secrets\r\n", 401},
                                               {"Authorization: secret\r\n", 401},
                                               {"Authorization: Basic secret\r\n", 401},
                                               {"Authorization: Bearersecret\r\n", 401},
                                               {"Authorization: Bearer secret\r\n", 200},
                                               {"authorization: bearer secret\r\n", 200},
                                               {"AUTHORIZATION: BEARER   secret \r\n", 200}};
  for (const auto& [header, status] : cases) {
    const auto response = Client(served.server.port()).post("/v1/completions", body, header);
    EXPECT_EQ(response.status, status) << header;
    EXPECT_EQ(response.headers.contains("www-authenticate"), status == 401);
    if (status == 401) {
      EXPECT_EQ(response.json()["error"]["code"], "invalid_api_key");
    }
    EXPECT_EQ(Client(served.server.port()).get("/v1/models", header).status, status);
  }
  for (const char* open : {"/health", "/ping", "/metrics", "/timeline/decode", "/"})
    EXPECT_EQ(served.get(open).status, 200);
  EXPECT_EQ(served.post("/tokenize", {{"prompt", "a"}}).status, 401);
}

TEST(Endpoints, TakesPathsAsClientsWriteThem) {
  ServedModel model = demo_model();
  model.names = {"org/name", "50%"};
  Served served({}, {}, model);
  for (const char* path : {"/v1/models/org/name", "/v1/models/org%2Fname", "/v1/models/org%2fname/",
                           "//v1//models/org/name?x=%2F", "http://host:1/v1/models/org%2Fname"})
    EXPECT_EQ(served.get(path).json().value("id", ""), "org/name") << path;
  for (const char* path : {"/v1/models/50%25", "/v1/models/50%"})
    EXPECT_EQ(served.get(path).json().value("id", ""), "50%") << path;
  EXPECT_EQ(served.get("/v1/models/").json()["data"].size(), 2u);
  EXPECT_EQ(served.get("http://host").status, 200);
  Client client(served.server.port());
  const std::string body = R"({"prompt": [10], "max_tokens": 1, "model": "org/name"})";
  EXPECT_EQ(client.post("/v1/completions/", body).status, 200);
  EXPECT_EQ(client.post("/v1/completions", body, "Content-Encoding: identity\r\n").status, 200);
  const auto packed = client.post("/v1/completions", body, "Content-Encoding: gzip\r\n");
  EXPECT_EQ(packed.status, 415);
  EXPECT_EQ(packed.headers.at("accept-encoding"), "identity");
  // What openai-node sends beside.
  EXPECT_EQ(client
                .post("/v1/completions", body,
                      "Accept: text/event-stream\r\nx-stainless-os: Linux\r\nUser-Agent: x\r\n")
                .status,
            200);
}

TEST(Endpoints, SharesWithPagesOfOtherOrigins) {
  const std::string origin = "Origin: https://chat.example\r\n";
  const std::string ask = origin +
                          "Access-Control-Request-Method: POST\r\n"
                          "Access-Control-Request-Headers: authorization,x-stainless-os\r\n";
  const std::string allow = "access-control-allow-origin";
  const auto preflight = [&](Served& served, const std::string& headers) {
    Client client(served.server.port());
    client.send("OPTIONS /v1/completions HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
    return client.receive();
  };
  const std::string body = R"({"prompt": [10], "max_tokens": 1, "stream": true})";
  Served closed({.api_key = "secret"});
  EXPECT_EQ(preflight(closed, ask).status, 405);
  EXPECT_FALSE(Client(closed.server.port()).get("/health", origin).headers.contains(allow));

  for (const std::string allowed : {"https://chat.example", "*"}) {
    Served served({.api_key = "secret", .allowed_origins = {allowed}}, {.max_request_bytes = 100});
    const auto told = preflight(served, ask);
    EXPECT_EQ(told.status, 200);
    EXPECT_EQ(told.headers.at(allow), allowed);
    EXPECT_EQ(told.headers.at("access-control-allow-methods"), "POST");
    EXPECT_EQ(told.headers.at("access-control-allow-headers"), "authorization,x-stainless-os");
    EXPECT_EQ(told.headers.contains("vary"), allowed != "*");
    // Answers of every kind: streams, whole ones, errors, requests that are not read.
    const std::string key = "Authorization: Bearer secret\r\n";
    const std::tuple<std::string, std::string, int> posts[] = {
        {body, origin + key, 200},
        {R"({"prompt": [10], "max_tokens": 1})", origin + key, 200},
        {body, origin, 401},
        {"{}", origin + key, 400},
        {std::string(200, ' '), origin + key, 413}};
    for (const auto& [text, headers, status] : posts) {
      const auto response = Client(served.server.port()).post("/v1/completions", text, headers);
      EXPECT_EQ(response.status, status);
      EXPECT_EQ(response.headers.at(allow), allowed) << status;
    }
    // Who is no page, and whose page may not.
    EXPECT_FALSE(served.get("/health").headers.contains(allow));
    const std::string other = "Origin: https://other.example\r\n";
    EXPECT_EQ(Client(served.server.port()).get("/health", other).headers.contains(allow),
              allowed == "*");
    EXPECT_EQ(preflight(served, other + "Access-Control-Request-Method: POST\r\n").status,
              allowed == "*" ? 200 : 403);
  }
}

}  // namespace
}  // namespace farskip::serve
