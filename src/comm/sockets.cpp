#include "comm/sockets.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "comm/pending.h"
#include "util/error.h"

namespace farskip::comm {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

constexpr auto kManners = std::chrono::seconds(2);  ///< in which whoever connects says who it is

[[noreturn]] void failed(const std::string& doing) {
  throw Error(util::concat(doing, ": ", std::strerror(errno)));
}

Addresses resolve(const std::string& address, const std::string& port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  const int error = getaddrinfo(address.c_str(), port.c_str(), &hints, &found);
  if (error) throw Error(util::concat("address \"", address, "\": ", gai_strerror(error)));
  return {found, freeaddrinfo};
}

util::UniqueFd socket_for(const addrinfo& address, int flags) {
  util::UniqueFd made(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (made.get() < 0) failed("opening a socket");
  return made;
}

/// What the messages' sockets need.
void prepare(const util::UniqueFd& connection, int send_buffer) {
  const int on = 1;
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(connection.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  setsockopt(connection.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
  setsockopt(connection.get(), SOL_SOCKET, SO_RCVBUF, &kSocketBuffer, sizeof kSocketBuffer);
}

/// Waits until the socket is ready; false if it is not in time.
bool ready(const util::UniqueFd& socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd polled{socket.get(), events, 0};
    const int found = left > 0 ? poll(&polled, 1, static_cast<int>(left)) : 0;
    if (found > 0) return true;
    if (found == 0) return false;
    if (errno != EINTR) failed("waiting at a socket");
  }
}

/// The first words on a connection.
struct Greeting {
  std::array<char, 32> password{};
  int64_t rank = 0;
};

std::string new_password() {
  std::random_device random;
  std::string password;
  while (password.size() < sizeof(Greeting::password))
    password += "0123456789abcdef"[random() % 16];
  return password;
}

util::UniqueFd connect_to(const nlohmann::json& place, int64_t peer, int64_t rank,
                          Clock::time_point until) {
  const std::string what =
      util::concat("connecting to rank ", peer, " at ", place.at("address").get<std::string>());
  const Addresses address = resolve(place.at("address"), place.at("port"));
  util::UniqueFd connection = socket_for(*address, SOCK_NONBLOCK);
  if (connect(connection.get(), address->ai_addr, address->ai_addrlen) != 0) {
    if (errno != EINPROGRESS) failed(what);
    if (!ready(connection, POLLOUT, until)) throw Error(what + ": timed out");
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    if (error != 0) failed(what);
  }
  Greeting greeting{.rank = rank};
  const std::string password = place.at("password");
  std::copy_n(password.begin(), std::min(password.size(), greeting.password.size()),
              greeting.password.begin());
  if (send(connection.get(), &greeting, sizeof greeting, MSG_NOSIGNAL) != sizeof greeting)
    failed(what);
  return connection;
}

/// The rank that greets with the password, else -1.
int64_t greeted(const util::UniqueFd& connection, const std::string& password,
                Clock::time_point until) {
  Greeting greeting;
  size_t moved = 0;
  while (moved < sizeof greeting) {
    if (!ready(connection, POLLIN, until)) return -1;
    const ssize_t more = recv(connection.get(), reinterpret_cast<char*>(&greeting) + moved,
                              sizeof greeting - moved, MSG_DONTWAIT);
    if (more == 0 || (more < 0 && errno != EAGAIN && errno != EINTR)) return -1;
    if (more > 0) moved += static_cast<size_t>(more);
  }
  return std::equal(password.begin(), password.end(), greeting.password.begin()) ? greeting.rank
                                                                                 : -1;
}

}  // namespace

std::vector<util::UniqueFd> meet(c10d::Store& store, const std::string& name,
                                 const std::string& address, int64_t rank, int64_t size,
                                 std::chrono::milliseconds timeout, int send_buffer) {
  const auto until = Clock::now() + timeout;
  const Addresses own = resolve(address, "0");
  const util::UniqueFd listener = socket_for(*own, SOCK_NONBLOCK);
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  std::array<char, NI_MAXSERV> port{};
  if (bind(listener.get(), own->ai_addr, own->ai_addrlen) != 0 ||
      listen(listener.get(), static_cast<int>(size)) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    failed("listening at " + address);
  getnameinfo(reinterpret_cast<sockaddr*>(&bound), length, nullptr, 0, port.data(), port.size(),
              NI_NUMERICSERV);
  const std::string password = new_password();
  const auto key = [&](int64_t of) { return util::concat(name, "/", of); };
  const std::string place =
      nlohmann::json{{"address", address}, {"port", port.data()}, {"password", password}}.dump();
  store.set(key(rank), std::vector<uint8_t>(place.begin(), place.end()));

  std::vector<util::UniqueFd> connections(size);
  for (int64_t peer = 0; peer < rank; ++peer) {
    const auto theirs = store.get(key(peer));
    connections[peer] =
        connect_to(nlohmann::json::parse(theirs.begin(), theirs.end()), peer, rank, until);
  }
  for (int64_t missing = size - 1 - rank; missing > 0;) {
    if (!ready(listener, POLLIN, until))
      throw Error(
          util::concat("timed out waiting for ", missing, " of the other ranks at ", address));
    util::UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.get() < 0) continue;
    const int64_t peer = greeted(connection, password, std::min(until, Clock::now() + kManners));
    if (peer <= rank || peer >= size || connections[peer].get() >= 0) continue;
    connections[peer] = std::move(connection);
    --missing;
  }
  for (int64_t peer = 0; peer < size; ++peer)
    if (peer != rank) prepare(connections[peer], send_buffer);
  return connections;
}

}  // namespace farskip::comm
