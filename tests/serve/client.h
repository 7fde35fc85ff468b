// A client of plain sockets, which may also behave badly.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_file.h"
#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::serve {

struct ClientResponse {
  int status = 0;                              ///< 0: the connection was closed without an answer
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;

  io::Json json() const { return io::parse_json(body, "response"); }
  /// The data of server-sent events; the last must be [DONE], which is left out.
  std::vector<io::Json> events() const {
    std::vector<io::Json> events;
    size_t at = 0;
    for (size_t end; (end = body.find("\n\n", at)) != body.npos; at = end + 2) {
      const std::string data = body.substr(at, end - at);
      if (data == "data: [DONE]" && end + 2 == body.size()) return events;
      if (!data.starts_with("data: ")) break;
      events.push_back(io::parse_json(data.substr(6), "event"));
    }
    throw Error("no events: " + body);
  }
};

class Client {
 public:
  explicit Client(int port, int patience_seconds = 20) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{patience_seconds, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw Error("no connection");
  }

  /// False when the other side is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  void shut_down_sending() { ::shutdown(fd_.get(), SHUT_WR); }

  ClientResponse get(const std::string& path, const std::string& headers = "") {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
    return receive();
  }
  ClientResponse post(const std::string& path, std::string_view body,
                      const std::string& headers = "") {
    send(post_text(path, body, headers));
    return receive();
  }
  static std::string post_text(const std::string& path, std::string_view body,
                               const std::string& headers = "") {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
           "Content-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" +
           std::string(body);
  }

  ClientResponse receive(bool to_head = false) {
    ClientResponse response;
    const auto end = read_until("\r\n\r\n");
    if (end == std::string::npos) return response;
    read_head(response, end);
    buffer_.erase(0, end + 4);
    if (to_head) return response;
    if (response.headers.contains("transfer-encoding")) {
      while (const auto piece = receive_chunk()) response.body += *piece;
    } else if (response.headers.contains("content-length")) {
      const size_t length = std::stoul(response.headers["content-length"]);
      while (buffer_.size() < length && read_more()) continue;
      response.body = buffer_.substr(0, length);
      buffer_.erase(0, length);
    } else {
      while (read_more()) continue;
      response.body.swap(buffer_);
    }
    return response;
  }
  /// A piece of a chunked answer; nothing at its end.
  std::optional<std::string> receive_chunk() {
    const auto line = read_until("\r\n");
    if (line == std::string::npos) throw Error("a cut answer");
    const size_t length = std::stoul(buffer_.substr(0, line), nullptr, 16);
    while (buffer_.size() < line + 2 + length + 2)
      if (!read_more()) throw Error("a cut answer");
    std::string piece = buffer_.substr(line + 2, length);
    buffer_.erase(0, line + 2 + length + 2);
    return length > 0 ? std::optional(piece) : std::nullopt;
  }
  /// Whether the other side closes within the patience, saying nothing more.
  bool is_closed() { return buffer_.empty() && !read_more() && !timed_out_; }

 private:
  size_t read_until(const char* mark) {
    size_t at;
    while ((at = buffer_.find(mark)) == std::string::npos)
      if (!read_more()) return std::string::npos;
    return at;
  }
  bool read_more() {
    char part[4096];
    const auto count = ::recv(fd_.get(), part, sizeof part, 0);
    timed_out_ = count < 0 && errno == EAGAIN;
    if (count <= 0) return false;
    buffer_.append(part, static_cast<size_t>(count));
    return true;
  }
  void read_head(ClientResponse& response, size_t end) const {
    response.status = std::stoi(buffer_.substr(9, 3));
    size_t at = buffer_.find("\r\n") + 2;
    while (at < end) {
      const size_t colon = buffer_.find(':', at), stop = buffer_.find("\r\n", at);
      std::string name = buffer_.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(tolower(c));
      response.headers[name] = buffer_.substr(colon + 2, stop - colon - 2);
      at = stop + 2;
    }
  }

  util::UniqueFd fd_;
  std::string buffer_;
  bool timed_out_ = false;
};

}  // namespace farskip::serve
