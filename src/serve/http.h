// An HTTP request and the answer to it, as values.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "io/json_fields.h"

namespace farskip::serve {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// What a request says, as far as anybody here wants to know.
struct HttpRequest {
  std::string method;        ///< "POST"
  std::string path;          ///< as path_of() makes it
  std::string content_type;  ///< of these headers the values, or ""
  std::string authorization = {};
  std::string content_encoding = {};
  std::string origin = {};
  std::string asked_method = {}, asked_headers = {};  ///< Access-Control-Request-...
  std::string body = {};
};

/// The path of a request's target, as routes have it: without origin and query, with one slash for
/// several and none at the end, %2F and other escapes resolved.
std::string path_of(std::string target);

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  Headers headers = {};  ///< others
};

/// The JSON as text; what is not valid UTF-8 becomes U+FFFD.
inline std::string json_text(const io::Json& json) {
  return json.dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

inline HttpResponse json_response(const io::Json& json, int status = 200) {
  return {status, "application/json", json_text(json)};
}

}  // namespace farskip::serve
