#include "serve/http_server.h"

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <iostream>
#include <mutex>
#include <set>
#include <thread>

#include "serve/connection.h"
#include "util/error.h"

namespace farskip::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

/// Threads that parse and tokenize, which takes a while for large requests: so many minus one may
/// be large without the others' waiting. One more has all the sockets: handing them to and fro
/// would cost more than a token's work.
constexpr size_t kWorkers = 4;
/// Connections beyond the limit that are told so at once; more are closed.
constexpr size_t kTurnedAway = 64;

tcp::acceptor listen(asio::io_context& io, const HttpOptions& options) {
  const auto refuse = [&](const char* option, const auto& found, const ErrorCode& error,
                          const char* expected) {
    throw InputError(
        util::concat(option, ": found ", found, " (", error.message(), "), expected ", expected));
  };
  ErrorCode error;
  const auto endpoints = tcp::resolver(io).resolve(options.host, std::to_string(options.port),
                                                   tcp::resolver::passive, error);
  if (error || endpoints.empty())
    refuse("--host", options.host, error, "a name or an address of this machine");
  const tcp::endpoint endpoint = *endpoints.begin();
  tcp::acceptor acceptor(asio::make_strand(io));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error == boost::system::errc::address_not_available)
    refuse("--host", options.host, error, "a name or an address of this machine");
  if (error) refuse("--port", options.port, error, "a free port");
  acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) refuse("--port", options.port, error, "a free port");
  return acceptor;
}

}  // namespace

struct HttpServer::State {
  State(Service& service, HttpOptions options)
      : service(service),
        options(std::move(options)),
        acceptor(listen(io, this->options)),
        port(acceptor.local_endpoint().port()),
        signals(acceptor.get_executor()) {}

  asio::awaitable<void> accept();
  void admit(tcp::socket socket);
  /// Calls f(connection) for all that there are.
  template <class F>
  void for_each(F f) {
    const std::lock_guard lock(mutex);
    for (const auto& connection : connections) f(*connection);
  }

  Service& service;
  HttpOptions options;
  asio::io_context io{1};
  asio::thread_pool workers{kWorkers};
  tcp::acceptor acceptor;
  int port;
  asio::signal_set signals;
  mutable std::mutex mutex;
  std::set<std::shared_ptr<Connection>> connections;
  std::atomic<bool> stopping = false;
  std::thread thread;
};

asio::awaitable<void> HttpServer::State::accept() {
  while (!stopping) {
    ErrorCode error;
    tcp::socket socket(asio::make_strand(io));
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (stopping) co_return;
    if (!error) {
      admit(std::move(socket));
    } else {  // no descriptors left, say
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

void HttpServer::State::admit(tcp::socket socket) {
  const auto connection =
      std::make_shared<Connection>(std::move(socket), workers, service, options);
  bool turned_away = false;
  {
    const std::lock_guard lock(mutex);
    const size_t most = static_cast<size_t>(options.max_connections);
    if (connections.size() >= most + kTurnedAway) return;
    turned_away = connections.size() >= most;
    connections.insert(connection);
  }
  asio::co_spawn(
      connection->executor(), [connection, turned_away] { return connection->run(turned_away); },
      [this, connection](std::exception_ptr failure) {
        {
          const std::lock_guard lock(mutex);
          connections.erase(connection);
        }
        try {
          if (failure) std::rethrow_exception(failure);
        } catch (const std::exception& error) {
          std::cerr << "farskip: warning: a connection failed: " << error.what() << std::endl;
        }
      });
  if (stopping) connection->close_when_idle();
}

HttpServer::HttpServer(Service& service, HttpOptions options)
    : state_(std::make_unique<State>(service, std::move(options))) {
  State& state = *state_;
  asio::co_spawn(
      state.acceptor.get_executor(), [&state] { return state.accept(); }, asio::detached);
  state.thread = std::thread([&state] { state.io.run(); });
}

HttpServer::~HttpServer() {
  stop_now();
  asio::post(state_->acceptor.get_executor(), [this] { state_->signals.cancel(); });
  state_->thread.join();
}

int HttpServer::port() const {
  return state_->port;
}

void HttpServer::stop() {
  State& state = *state_;
  if (state.stopping.exchange(true)) return;
  state.service.stop();
  asio::post(state.acceptor.get_executor(), [&state] {
    ErrorCode ignored;
    state.acceptor.close(ignored);
  });
  state.for_each([](Connection& connection) { connection.close_when_idle(); });
}

void HttpServer::stop_now() {
  stop();
  state_->for_each([](Connection& connection) { connection.close(); });
}

void HttpServer::stop_on_signals() {
  asio::signal_set& signals = state_->signals;
  signals.add(SIGINT);
  signals.add(SIGTERM);
  signals.async_wait([this, &signals](ErrorCode error, int) {
    if (error) return;
    stop();
    signals.async_wait([this](ErrorCode error, int) {
      if (!error) stop_now();
    });
  });
}

bool HttpServer::finished() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stopping && state_->connections.empty();
}

}  // namespace farskip::serve
