// An HTTP request and the answer to it, as values.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "io/json_fields.h"

namespace farskip::serve {

/// What a request says, as far as anybody here wants to know.
struct HttpRequest {
  std::string method;        ///< "POST"
  std::string path;          ///< without the query
  std::string content_type;  ///< of these headers the values, or ""
  std::string authorization = {};
  std::string body = {};
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};  ///< others
};

/// The JSON as text; what is not valid UTF-8 becomes U+FFFD.
inline std::string json_text(const io::Json& json) {
  return json.dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

inline HttpResponse json_response(const io::Json& json, int status = 200) {
  return {status, "application/json", json_text(json)};
}

}  // namespace farskip::serve
