// What a client gets in place of an answer, in OpenAI's form.
#pragma once
#include <optional>
#include <string>

#include "io/json_fields.h"
#include "serve/http.h"
#include "util/error.h"

namespace farskip::serve {

/// Ends the handling of a request with this status.
struct ApiError : Error {
  ApiError(int status, const std::string& message, std::optional<std::string> param = {},
           std::optional<std::string> code = {})
      : Error(message), status(status), param(std::move(param)), code(std::move(code)) {}

  int status;
  std::optional<std::string> param;  ///< the field of the request that is at fault
  std::optional<std::string> code;   ///< "model_not_found", say
};

/// {"error": {"message", "type", "param", "code"}}
io::Json error_json(const ApiError& error);

/// The same as a whole answer; with it what a status asks for: WWW-Authenticate with 401,
/// Retry-After with 429 and 503.
HttpResponse error_response(const ApiError& error);

}  // namespace farskip::serve
