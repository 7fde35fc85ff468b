// A model to serve that is none, and a server of it.
#pragma once
#include <chrono>
#include <functional>
#include <thread>

#include "serve/client.h"
#include "serve/fake_backend.h"
#include "serve/http_server.h"

namespace farskip::serve {

inline const ServedModel& demo_model() {
  static const ServedModel model = {
      .names = {"demo", "alias"},
      .tokenizer = text::Tokenizer::open(FARSKIP_SOURCE_DIR "/data/demo"),
      .chat_template = text::ChatTemplate::open(FARSKIP_SOURCE_DIR "/data/demo"),
      .eos_tokens = {0},
      .vocabulary = 4096,
      .max_sequence = 4096};
  return model;
}

/// A prompt, and what the model makes of a text.
inline const std::string kText = "Once upon a time in a large village";
inline std::vector<int64_t> ids(const std::string& text) {
  return demo_model().tokenizer.encode(text, true);
}
inline io::Json chat_body(const io::Json& more = io::Json::object()) {
  io::Json body = {{"messages", {{{"role", "user"}, {"content", "Why so?"}}}}};
  body.update(more);
  return body;
}

/// Server, service and fake engine, for a test.
struct Served {
  explicit Served(ServiceOptions service_options = {}, HttpOptions http = {},
                  ServedModel model = demo_model())
      : service(std::move(model), backend, std::move(service_options)),
        server(service, at_any_port(std::move(http))) {}

  static HttpOptions at_any_port(HttpOptions options) {
    options.port = 0;
    return options;
  }
  ClientResponse post(const std::string& path, const io::Json& body) {
    return Client(server.port()).post(path, body.dump());
  }
  ClientResponse get(const std::string& path) { return Client(server.port()).get(path); }

  FakeBackend backend;
  Service service;
  HttpServer server;
};

/// Whether it comes true within ten seconds.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

}  // namespace farskip::serve
