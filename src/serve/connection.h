// One client's connection.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>
#include <optional>
#include <string>

#include "serve/http_server.h"

namespace farskip::serve {

/// Its functions run on its socket's executor, a strand, but for close_when_idle() and close(),
/// which any thread may call. Alive while run() is.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Workers = boost::asio::thread_pool;
  template <class T>
  using Awaitable = boost::asio::awaitable<T>;

  /// `workers`: where requests are handled. What it is given must outlive it.
  Connection(Socket socket, Workers& workers, Service& service, const HttpOptions& options);

  boost::asio::any_io_executor executor() { return socket_.get_executor(); }
  /// Answers requests until the connection is over; if `turned_away`, only that there are too many
  /// connections.
  Awaitable<void> run(bool turned_away);

  /// Reads no further request.
  void close_when_idle();
  void close();

 private:
  using ErrorCode = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Clock = std::chrono::steady_clock;

  Awaitable<void> serve();
  /// The next request; nothing when there is none, after an answer if one is due.
  Awaitable<std::optional<HttpRequest>> receive();
  Awaitable<ErrorCode> read(Parser& parser);
  Awaitable<void> refuse(ErrorCode error);
  /// Sends the answer. Its status, 499 if the client did not wait for it.
  Awaitable<int> answer(const HttpRequest& request, Reply& reply);
  Awaitable<int> finish(Generation& generation);
  Awaitable<int> stream(const HttpResponse& head, Generation& generation);
  /// Until the generation may have news, the client is gone or the time is up.
  Awaitable<void> wait_for_news(Clock::time_point until);
  Awaitable<ErrorCode> send(const HttpResponse& response, bool with_body);
  Awaitable<ErrorCode> send_head(const HttpResponse& head);
  Awaitable<ErrorCode> send_piece(const std::string& piece, bool last);
  /// Lets the client read what it was sent before the connection is closed.
  Awaitable<void> linger();

  /// Calls the socket's operations off when the time is up.
  void limit(HttpOptions::Duration time);
  void lift_limit();
  void start_timer();
  /// Notices when the client closes its side.
  void watch();

  Socket socket_;
  Workers& workers_;
  Service& service_;
  const HttpOptions& options_;
  boost::beast::flat_buffer buffer_;  ///< read, and not yet parsed
  boost::asio::steady_timer deadline_, news_;
  Clock::time_point limit_ = Clock::time_point::max();
  bool timed_ = false;      ///< deadline_ runs, and ends not later than limit_
  Headers sharing_;         ///< of the answer, for the request's origin
  unsigned version_ = 11;   ///< of the request's HTTP, 11 is 1.1
  bool keep_alive_ = true;  ///< for another request
  bool idle_ = false;       ///< waits for the first byte of a request
  bool timed_out_ = false;  ///< the limit has been reached
  bool gone_ = false;       ///< the client has closed its side, or close() was called
};

}  // namespace farskip::serve
