// Sockets: bad manners of every kind, while others are served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "serve/support.h"

namespace farskip::serve {
namespace {

using io::Json;
using std::chrono::milliseconds;
using testing::HasSubstr;

const std::string kGood = R"({"prompt": [10, 11, 12], "max_tokens": 4})";

/// A good request gets its answer.
void expect_service(Served& served) {
  const auto response = Client(served.server.port()).post("/v1/completions", kGood);
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.json()["choices"][0]["text"],
            demo_model().tokenizer.decode(std::vector<int64_t>{10, 11, 12, 10}));
}

struct Bad {
  std::string bytes;
  int status;  ///< 0: closed without an answer
  bool half_closes = false;
};

TEST(HttpServer, AnswersBadRequestsAndGoesOn) {
  Served served({}, {.max_request_bytes = 64 << 10, .receive = milliseconds(300)});
  const auto post = [](const std::string& body, const std::string& path = "/v1/completions") {
    return Client::post_text(path, body);
  };
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";
  const std::string json = "Content-Type: application/json\r\n";
  const Bad cases[] = {
      // JSON and fields (tests/serve/request_test.cpp has many more).
      {post(""), 400},
      {post("{"), 400},
      {post("{\"prompt\": \"\xff\"}"), 400},
      {post(R"({"prompt": NaN})"), 400},
      {post(R"({"prompt": "a", "max_tokens": -1})"), 400},
      {post(R"({"prompt": "a", "max_tokens": 1e99})"), 400},
      {post(R"({"prompt": "a", "model": "other"})"), 404},
      {post(std::string(10000, '[')), 400},
      {post(std::string(60000, '9')), 400},
      {post(R"({"prompt": [)" + std::string(50000, ' ') + "5000]}"), 400},
      {post(R"({"messages": []})", "/v1/chat/completions"), 400},
      {post("{}", "/tokenize"), 400},
      {post(std::string("\0\0\0", 3)), 400},
      // Routes, methods, types.
      {"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404},
      {"GET /v1/completions/ HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404},
      {"GET /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"OPTIONS /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"BREW /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {head + "Content-Length: 2\r\n\r\n{}", 415},
      {head + "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415},
      {head + "Content-Type: application/jsonp\r\nContent-Length: 2\r\n\r\n{}", 415},
      // Sizes.
      {head + json + "Content-Length: 1000000\r\n\r\n{", 413},
      {head + json + "Content-Length: 99999999999999999999999\r\n\r\n{", 400},
      {head + json + "Content-Length: -1\r\n\r\n{}", 400},
      {head + json + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", 400},
      {post(std::string(70 << 10, 'x')), 413},
      {head + json + "Transfer-Encoding: chunked\r\n\r\n12000\r\n" + std::string(0x12000, 'x') +
           "\r\n0\r\n\r\n",
       413},
      {head + "X: " + std::string(40 << 10, 'x') + "\r\n\r\n", 431},
      {"GET /" + std::string(40 << 10, 'x') + " HTTP/1.1\r\n\r\n", 431},
      // HTTP.
      {"\r\n\r\n", 400},
      {"nonsense\r\n\r\n", 400},
      {"GET\r\n\r\n", 400},
      {"GET / HTTP/9.9\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), 400},  // TLS
      {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: \x01\r\n\r\n", 400},
      {head + json + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {head + json + "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", 400},
      {head + json + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400},
      {head + json + "Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 400},
      // Who stops half-way, and says so.
      {"GET /v1/mo", 400, true},
      {head, 400, true},
      {head + json + "Content-Length: 100\r\n\r\n{", 400, true},
      {head + json + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", 400, true},
      {"", 0, true},
      // And who doesn't.
      {"G", 408},
      {head, 408},
      {head + json + "Content-Length: 100\r\n\r\n{\"prompt\"", 408},
      {head + json + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408},
  };
  EXPECT_GE(std::size(cases), 50u);
  for (const Bad& one : cases) {
    Client client(served.server.port());
    client.send(one.bytes);
    if (one.half_closes) client.shut_down_sending();
    const auto response = client.receive();
    const std::string shown = io::printable(one.bytes, 200);
    EXPECT_EQ(response.status, one.status) << shown << "\n" << response.body;
    if (response.status == 0) continue;
    const Json error = response.json().at("error");
    EXPECT_TRUE(error.at("message").is_string() && error.contains("param") &&
                error.contains("code"))
        << shown;
    EXPECT_EQ(error.at("type"), "invalid_request_error") << shown;
    expect_service(served);
  }
}

TEST(HttpServer, CutsSlowSendersOff) {
  // A byte now and then does not keep a request alive.
  Served served({}, {.receive = milliseconds(400)});
  const std::string bytes = Client::post_text("/v1/completions", kGood);
  Client slow(served.server.port());
  const auto start = std::chrono::steady_clock::now();
  size_t sent = 0;
  while (sent < bytes.size() && slow.send(bytes.substr(sent, 1)) &&
         std::chrono::steady_clock::now() - start < std::chrono::seconds(1)) {
    ++sent;
    std::this_thread::sleep_for(milliseconds(25));
    if (sent % 8 == 0) expect_service(served);
  }
  EXPECT_LT(sent, bytes.size());
  EXPECT_EQ(slow.receive().status, 408);
}

TEST(HttpServer, TakesRequestsInAnyPieces) {
  Served served;
  const std::string bytes = Client::post_text("/v1/completions", kGood);
  for (const size_t size : {size_t{1}, size_t{7}, size_t{100}}) {
    Client client(served.server.port());
    for (size_t at = 0; at < bytes.size(); at += size) {
      client.send(bytes.substr(at, size));
      std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_EQ(client.receive().status, 200);
  }
  // Several at once, one after another on the same connection, and in chunks.
  Client client(served.server.port());
  client.send(bytes + Client::post_text("/v1/completions", "{}") + bytes);
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(client.receive().status, 400);
  EXPECT_EQ(client.receive().status, 200);
  client.send(
      "POST /v1/completions HTTP/1.1\r\nContent-Type: Application/JSON ; charset=utf-8\r\n"
      "Transfer-Encoding: chunked\r\n\r\n5\r\n" +
      kGood.substr(0, 5) + "\r\n24\r\n" + kGood.substr(5) + "\r\n0\r\n\r\n");
  ASSERT_EQ(kGood.size() - 5, size_t{0x24});
  EXPECT_EQ(client.receive().status, 200);
  // Who asks first is told to go on.
  client.send(
      "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
      "Expect: 100-Continue\r\nContent-Length: " +
      std::to_string(kGood.size()) + "\r\n\r\n");
  EXPECT_EQ(client.receive(/*to_head=*/true).status, 100);
  client.send(kGood);
  EXPECT_EQ(client.receive().status, 200);
  client.send("HEAD /health HTTP/1.1\r\n\r\n");
  const auto head = client.receive(/*to_head=*/true);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.headers.at("content-length"), "0");
  EXPECT_EQ(client.get("/health?x=1", "Connection: close\r\n").headers.at("connection"), "close");
  EXPECT_TRUE(client.is_closed());
}

TEST(HttpServer, SpeaksHttp10) {
  Served served;
  for (const std::string stream : {"false", "true"}) {
    const std::string body = kGood.substr(0, kGood.size() - 1) + ", \"stream\": " + stream + "}";
    Client client(served.server.port());
    client.send(
        "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body);
    const auto response = client.receive();
    EXPECT_EQ(response.status, 200);
    EXPECT_FALSE(response.headers.contains("transfer-encoding"));
    if (stream == "true") {
      EXPECT_GE(response.events().size(), 1u);
    }
    EXPECT_TRUE(client.is_closed());
  }
}

TEST(HttpServer, SendsTokensAsTheyCome) {
  Served served;
  served.backend.hold_at(0);
  Client client(served.server.port());
  client.send(Client::post_text("/v1/completions",
                                R"({"prompt": [310, 311, 312], "max_tokens": 3, "stream": true})"));
  // The head is there before any token is, and every token before the next.
  EXPECT_EQ(client.receive(/*to_head=*/true).status, 200);
  for (const int64_t token : {310, 311, 312}) {
    served.backend.hold_at(token - 309);
    ClientResponse piece{.body = client.receive_chunk().value_or("")};
    if (token == 312) {  // the end comes with the last text or right after it
      while (const auto more = client.receive_chunk()) piece.body += *more;
      EXPECT_THAT(piece.body, HasSubstr("\"finish_reason\":\"length\""));
      break;
    }
    piece.body += "data: [DONE]\n\n";
    ASSERT_EQ(piece.events().size(), 1u);
    EXPECT_EQ(piece.events()[0]["choices"][0]["text"],
              demo_model().tokenizer.decode(std::vector<int64_t>{token}));
  }
}

TEST(HttpServer, GivesUpWhatNobodyWaitsFor) {
  Served served;
  served.backend.pause(true);
  const std::string bodies[] = {R"({"prompt": "a", "max_tokens": 1000, "n": 2})",
                                R"({"prompt": "a", "max_tokens": 1000, "n": 2, "stream": true})"};
  int64_t cancelled = 0;
  for (const std::string& body : bodies) {
    {
      Client client(served.server.port());
      client.send(Client::post_text("/v1/completions", body));
      ASSERT_TRUE(eventually([&] { return served.backend.figures().running == 2; }));
    }  // gone
    cancelled += 2;
    EXPECT_TRUE(eventually([&] { return served.backend.cancelled() == cancelled; })) << body;
  }
  EXPECT_TRUE(eventually([&] {
    return served.get("/metrics").body.find("{endpoint=\"/v1/completions\",status=\"499\"} 2\n") !=
           std::string::npos;
  }));
  served.backend.pause(false);
  expect_service(served);
}

TEST(HttpServer, EndsAnswersThatTakeTooLong) {
  Served served({}, {.answer = milliseconds(200)});
  served.backend.pause(true);
  const auto whole = served.post("/v1/completions", {{"prompt", "a"}});
  EXPECT_EQ(whole.status, 504);
  EXPECT_EQ(whole.json()["error"]["type"], "server_error");
  const auto events = served.post("/v1/completions", {{"prompt", "a"}, {"stream", true}}).events();
  EXPECT_THAT(events.back()["error"]["message"].get<std::string>(), HasSubstr("in time"));
  EXPECT_TRUE(eventually([&] { return served.backend.cancelled() == 2; }));
}

TEST(HttpServer, GivesUpClientsThatDoNotRead) {
  Served served({}, {.send = milliseconds(300)});
  Client client(served.server.port());
  // Much more than the buffers of a socket hold.
  client.send(Client::post_text(
      "/v1/completions",
      R"({"prompt": [10], "n": 100, "max_tokens": 4000, "logprobs": 20, "stream": true})"));
  EXPECT_TRUE(eventually([&] { return served.backend.figures().running > 0; }));
  EXPECT_TRUE(eventually([&] { return served.backend.figures().running == 0; }));
  expect_service(served);
}

TEST(HttpServer, LimitsConnections) {
  Served served({}, {.max_connections = 4, .idle = milliseconds(500)});
  std::vector<Client> idle;
  for (int i = 0; i < 4; ++i) idle.emplace_back(served.server.port());
  EXPECT_EQ(idle.back().get("/health").status, 200);
  const auto turned_away = Client(served.server.port()).receive();
  EXPECT_EQ(turned_away.status, 503);
  EXPECT_TRUE(turned_away.headers.contains("retry-after"));
  // Who says nothing makes room.
  EXPECT_TRUE(idle.front().is_closed());
  EXPECT_TRUE(eventually([&] { return served.get("/health").status == 200; }));
}

TEST(HttpServer, StopsWhenAllAreAnswered) {
  Served served;
  served.backend.pause(true);
  Client idle(served.server.port()), whole(served.server.port()), streaming(served.server.port());
  EXPECT_EQ(idle.get("/health").status, 200);
  whole.send(Client::post_text("/v1/completions", kGood));
  streaming.send(Client::post_text("/v1/completions", R"({"prompt": "a", "stream": true})"));
  ASSERT_TRUE(eventually([&] { return served.backend.figures().running == 2; }));
  served.server.stop();
  EXPECT_TRUE(idle.is_closed());
  EXPECT_FALSE(served.server.finished());
  EXPECT_TRUE(eventually([&] {
    try {
      Client late(served.server.port());
      return false;
    } catch (const Error&) {
      return true;
    }
  }));
  served.backend.pause(false);
  const auto response = whole.receive();
  EXPECT_EQ(response.status, 200);
  EXPECT_GE(streaming.receive().events().size(), 1u);
  EXPECT_TRUE(eventually([&] { return served.server.finished(); }));
}

TEST(HttpServer, StopsAtOnceIfToldTo) {
  Served served;
  served.backend.pause(true);
  Client whole(served.server.port()), streaming(served.server.port());
  whole.send(Client::post_text("/v1/completions", kGood));
  streaming.send(Client::post_text("/v1/completions", R"({"prompt": "a", "stream": true})"));
  ASSERT_TRUE(eventually([&] { return served.backend.figures().running == 2; }));
  served.server.stop_now();
  EXPECT_EQ(whole.receive().status, 0);
  EXPECT_TRUE(eventually([&] { return served.server.finished(); }));
  EXPECT_TRUE(eventually([&] { return served.backend.cancelled() == 2; }));
}

TEST(HttpServer, RefusesAPlaceThatItCantHave) {
  Served served;
  const auto refused = [&](HttpOptions options) -> std::string {
    try {
      HttpServer(served.service, options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refused({.port = served.server.port()}), HasSubstr("--port: found"));
  EXPECT_THAT(refused({.host = "no.such.host.invalid", .port = 0}), HasSubstr("--host: found"));
  EXPECT_THAT(refused({.host = "192.0.2.1", .port = 0}), HasSubstr("--host: found"));
}

TEST(HttpServer, KeepsClientsApart) {
  // 16 clients, each with requests of every kind on one connection.
  Served served;
  std::atomic<int> answered = 0;
  const auto work = [&](int who) {
    Client client(served.server.port());
    for (int i = 0; i < 25; ++i) {
      const std::vector<int64_t> prompt = {100 + who, 200 + i, 300 + who};
      std::vector<int64_t> expected;
      for (int k = 0; k < 1 + (who * 7 + i) % 40; ++k) expected.push_back(prompt[k % 3]);
      const bool stream = i % 3 == 1;
      Json body = {{"prompt", prompt}, {"max_tokens", expected.size()}, {"stream", stream}};
      if (i % 5 == 4) body["max_tokens"] = -1;
      const auto response = client.post("/v1/completions", body.dump());
      if (i % 5 == 4) {
        answered += response.status == 400;
        continue;
      }
      std::string text;
      if (stream)
        for (const Json& event : response.events()) text += event["choices"][0]["text"];
      else
        text = response.json()["choices"][0]["text"];
      answered += text == demo_model().tokenizer.decode(expected);
    }
  };
  std::vector<std::future<void>> clients;
  for (int who = 0; who < 16; ++who) clients.push_back(std::async(std::launch::async, work, who));
  for (auto& client : clients) client.get();
  EXPECT_EQ(answered, 16 * 25);
  EXPECT_EQ(served.backend.figures().running, 0);
}

}  // namespace
}  // namespace farskip::serve
