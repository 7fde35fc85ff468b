#include "serve/connection.h"

#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>

#include "serve/api_error.h"

namespace farskip::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using util::concat;

constexpr uint32_t kMostHeaderBytes = 32 << 10;
constexpr size_t kReadBytes = 16 << 10;
constexpr int kClientGone = 499;  // as nginx counts it

/// Errors of an operation go to a variable.
auto into(boost::system::error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

std::string text_of(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

HttpRequest request_of(http::request<http::string_body>&& message) {
  return {.method = text_of(message.method_string()),
          .path = path_of(text_of(message.target())),
          .content_type = text_of(message[http::field::content_type]),
          .authorization = text_of(message[http::field::authorization]),
          .content_encoding = text_of(message[http::field::content_encoding]),
          .origin = text_of(message[http::field::origin]),
          .asked_method = text_of(message[http::field::access_control_request_method]),
          .asked_headers = text_of(message[http::field::access_control_request_headers]),
          .body = std::move(message.body())};
}

template <class Message>
void set_head(Message& message, const HttpResponse& response, const Headers& more,
              bool keep_alive) {
  message.set(http::field::server, "farskip");
  message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.set(name, value);
  for (const auto& [name, value] : more) message.set(name, value);
  message.keep_alive(keep_alive);
}

}  // namespace

Connection::Connection(Socket socket, Workers& workers, Service& service,
                       const HttpOptions& options)
    : socket_(std::move(socket)),
      workers_(workers),
      service_(service),
      options_(options),
      deadline_(socket_.get_executor()),
      news_(socket_.get_executor()) {
  ErrorCode ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);  // a token is a small packet
}

Connection::Awaitable<void> Connection::run(bool turned_away) {
  if (turned_away) {
    keep_alive_ = false;
    const ApiError error(503, concat("found ", options_.max_connections,
                                     " connections, expected a free place among them"));
    co_await send(error_response(error), true);
  } else {
    co_await serve();
  }
  if (!gone_) co_await linger();
  lift_limit();
  deadline_.cancel();
  ErrorCode ignored;
  socket_.close(ignored);
}

Connection::Awaitable<void> Connection::serve() {
  while (keep_alive_ && !gone_) {
    const auto request = co_await receive();
    if (!request) co_return;
    const auto start = Clock::now();
    Reply reply = co_await asio::co_spawn(
        workers_, [this, &request]() -> Awaitable<Reply> { co_return service_.handle(*request); },
        asio::use_awaitable);
    const int status = co_await answer(*request, reply);
    if (status == kClientGone) gone_ = true;
    service_.ended(*request, status, std::chrono::duration<double>(Clock::now() - start).count());
  }
}

Connection::Awaitable<std::optional<HttpRequest>> Connection::receive() {
  Parser parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(static_cast<uint64_t>(options_.max_request_bytes));
  const ErrorCode error = co_await read(parser);
  lift_limit();
  sharing_ = service_.sharing(text_of(parser.get()[http::field::origin]));
  if (error) {
    co_await refuse(error);
    co_return std::nullopt;
  }
  keep_alive_ = keep_alive_ && parser.get().keep_alive();
  co_return request_of(parser.release());
}

Connection::Awaitable<Connection::ErrorCode> Connection::read(Parser& parser) {
  ErrorCode error;
  if (buffer_.size() == 0) {
    idle_ = true;
    limit(options_.idle);
    const size_t count = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), into(error));
    if (error) co_return error;
    buffer_.commit(count);
    idle_ = false;
  }
  limit(options_.receive);
  co_await http::async_read_header(socket_, buffer_, parser, into(error));
  if (error) co_return error;
  version_ = parser.get().version();
  if (boost::beast::iequals(parser.get()[http::field::expect], "100-continue") &&
      !parser.is_done()) {
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(socket_, asio::buffer(go_on), into(error));
    if (error) co_return error;
  }
  if (!parser.is_done()) co_await http::async_read(socket_, buffer_, parser, into(error));
  co_return error;
}

Connection::Awaitable<void> Connection::refuse(ErrorCode error) {
  keep_alive_ = false;
  const bool is_http = error.category() == make_error_code(http::error::bad_method).category();
  if (idle_ || gone_ || (!timed_out_ && !is_http)) {  // nobody waits for an answer
    gone_ = true;
    co_return;
  }
  int status = 400;
  std::string message = concat("request: found broken HTTP (", error.message(), ")");
  if (timed_out_) {
    status = 408;
    message = concat("request: found a part of it, expected all of it within ",
                     options_.receive.count(), " ms");
  } else if (error == http::error::body_limit) {
    status = 413;
    message = concat("request body: found more than ", options_.max_request_bytes,
                     " bytes, expected at most so many");
  } else if (error == http::error::header_limit) {
    status = 431;
    message = concat("request header: found more than ", kMostHeaderBytes,
                     " bytes, expected at most so many");
  }
  co_await send(error_response(ApiError(status, message)), true);
  service_.ended({}, status, 0);
}

Connection::Awaitable<int> Connection::answer(const HttpRequest& request, Reply& reply) {
  if (!reply.generation) {
    const ErrorCode error = co_await send(reply.response, request.method != "HEAD");
    co_return error ? kClientGone : reply.response.status;
  }
  Generation& generation = *reply.generation;
  generation.notify([self = shared_from_this()] {
    asio::post(self->executor(), [self] { self->news_.cancel(); });
  });
  watch();
  const int status = generation.streams() ? co_await stream(reply.response, generation)
                                          : co_await finish(generation);
  reply.generation.reset();
  ErrorCode ignored;
  socket_.cancel(ignored);  // the watch
  co_return status;
}

Connection::Awaitable<int> Connection::finish(Generation& generation) {
  const auto until = Clock::now() + options_.answer;
  for (generation.advance(); !generation.done(); generation.advance()) {
    co_await wait_for_news(until);
    if (gone_) co_return kClientGone;
    if (Clock::now() >= until) generation.fail(504, "the answer was not ready in time");
  }
  const HttpResponse response = generation.response();
  const ErrorCode error = co_await send(response, true);
  co_return error ? kClientGone : response.status;
}

Connection::Awaitable<int> Connection::stream(const HttpResponse& head, Generation& generation) {
  const auto until = Clock::now() + options_.answer;
  ErrorCode error = co_await send_head(head);
  while (!error && !gone_) {
    std::string piece = generation.advance();
    if (!generation.done() && Clock::now() >= until)
      piece += generation.fail(504, "the answer was not ready in time");
    const bool last = generation.done();
    if (last || !piece.empty())
      error = co_await send_piece(piece, last);
    else
      co_await wait_for_news(until);
    if (last && !error) co_return head.status;
  }
  co_return kClientGone;
}

Connection::Awaitable<void> Connection::wait_for_news(Clock::time_point until) {
  ErrorCode ignored;  // cancelled: there is news
  news_.expires_at(until);
  co_await news_.async_wait(into(ignored));
}

Connection::Awaitable<Connection::ErrorCode> Connection::send(const HttpResponse& response,
                                                              bool with_body) {
  http::response<http::string_body> message(static_cast<http::status>(response.status), version_);
  set_head(message, response, sharing_, keep_alive_);
  message.content_length(response.body.size());
  if (with_body) message.body() = response.body;
  ErrorCode error;
  limit(options_.send);
  co_await http::async_write(socket_, message, into(error));
  lift_limit();
  co_return error;
}

Connection::Awaitable<Connection::ErrorCode> Connection::send_head(const HttpResponse& head) {
  const bool chunked = version_ >= 11;
  if (!chunked) keep_alive_ = false;  // the end of the connection is the end of the answer
  http::response<http::empty_body> message(static_cast<http::status>(head.status), version_);
  set_head(message, head, sharing_, keep_alive_);
  message.chunked(chunked);
  http::response_serializer<http::empty_body> serializer(message);
  ErrorCode error;
  limit(options_.send);
  co_await http::async_write_header(socket_, serializer, into(error));
  lift_limit();
  co_return error;
}

Connection::Awaitable<Connection::ErrorCode> Connection::send_piece(const std::string& piece,
                                                                    bool last) {
  ErrorCode error;
  limit(options_.send);
  if (version_ < 11) {
    co_await asio::async_write(socket_, asio::buffer(piece), into(error));
  } else {
    if (!piece.empty())
      co_await asio::async_write(socket_, http::make_chunk(asio::buffer(piece)), into(error));
    if (last && !error) co_await asio::async_write(socket_, http::make_chunk_last(), into(error));
  }
  lift_limit();
  co_return error;
}

Connection::Awaitable<void> Connection::linger() {
  ErrorCode error;
  socket_.shutdown(Socket::shutdown_send, error);
  limit(std::chrono::seconds(1));
  while (!error) {
    buffer_.clear();
    co_await socket_.async_read_some(buffer_.prepare(kReadBytes), into(error));
  }
}

void Connection::limit(HttpOptions::Duration time) {
  timed_out_ = false;
  limit_ = Clock::now() + time;
  // A timer that runs already looks at the limit when it is done: a token costs none of its own.
  if (!timed_ || limit_ < deadline_.expiry()) start_timer();
}

void Connection::lift_limit() {
  limit_ = Clock::time_point::max();
}

void Connection::start_timer() {
  timed_ = true;
  deadline_.expires_at(limit_);
  deadline_.async_wait([self = shared_from_this()](ErrorCode error) {
    if (error) return;  // started anew
    self->timed_ = false;
    if (self->limit_ == Clock::time_point::max()) return;
    if (self->limit_ > Clock::now()) return self->start_timer();
    self->timed_out_ = true;
    self->socket_.cancel(error);
  });
}

void Connection::watch() {
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](ErrorCode error) {
    if (error) return;
    char byte;
    const auto count = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (count > 0) return;  // the next request, early
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return self->watch();
    self->gone_ = true;
    self->news_.cancel();
  });
}

void Connection::close_when_idle() {
  asio::post(executor(), [self = shared_from_this()] {
    self->keep_alive_ = false;
    ErrorCode ignored;
    if (self->idle_) self->socket_.cancel(ignored);
  });
}

void Connection::close() {
  asio::post(executor(), [self = shared_from_this()] {
    self->gone_ = true;
    self->keep_alive_ = false;
    self->news_.cancel();
    ErrorCode ignored;
    self->socket_.close(ignored);
  });
}

}  // namespace farskip::serve
