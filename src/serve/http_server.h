// HTTP/1.1 over TCP for a Service.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "serve/service.h"

namespace farskip::serve {

struct HttpOptions {
  using Duration = std::chrono::milliseconds;

  std::string host = "127.0.0.1";                 ///< a name or an address of this machine
  int port = 8000;                                ///< 0: any that is free
  int64_t max_connections = 1024;                 ///< one more is told 503
  int64_t max_request_bytes = int64_t{16} << 20;  ///< of a body; a longer one is told 413
  Duration idle{60'000};                          ///< that a connection is kept without a request
  Duration receive{30'000};  ///< for a request to arrive in, all of it; a slower one is told 408
  Duration send{60'000};     ///< for a client to take what it is sent in
  Duration answer{600'000};  ///< for an answer to be ready in; a later one is told 504
};

/// Serves from construction on, with threads of its own. A connection takes no thread: it is a
/// coroutine. A client that goes away ends its request, whether the answer streams or not.
class HttpServer {
 public:
  /// `service` must outlive it. InputError where it can't listen.
  HttpServer(Service& service, HttpOptions options);
  /// As stop_now(), and waits for the end.
  ~HttpServer();

  int port() const;
  /// Takes no new requests and finishes those that are there.
  void stop();
  /// Closes all connections too.
  void stop_now();
  /// From now on SIGINT and SIGTERM do the first, a second one of them the other.
  void stop_on_signals();
  /// Whether all has ended after a stop.
  bool finished() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farskip::serve
