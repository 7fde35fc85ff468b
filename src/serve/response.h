// Answers of /v1/completions and /v1/chat/completions as JSON, whole and in pieces.
#pragma once
#include <string>
#include <vector>

#include "io/json_fields.h"
#include "serve/generation_request.h"

namespace farskip::serve {

/// What all pieces of an answer have alike.
struct AnswerHead {
  GenerationRequest::Endpoint endpoint = GenerationRequest::Endpoint::completions;
  std::string id;       ///< "cmpl-..." or "chatcmpl-..."
  int64_t created = 0;  ///< seconds since 1970
  std::string model;
};

/// One continuation of a prompt, or what a piece of a stream adds to it.
struct Choice {
  int64_t index = 0;
  std::string text;
  io::Json logprobs = nullptr;
  io::Json finish_reason = nullptr;  ///< "stop", "length"
};

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;

  io::Json json() const;
};

io::Json whole_answer(const AnswerHead& head, const std::vector<Choice>& choices,
                      const Usage& usage);

/// An event of a stream that adds to one choice. `usage_follows`: it says that it has none.
io::Json chunk(const AnswerHead& head, const Choice& choice, bool usage_follows);
/// The first of a chat's choice: who speaks.
io::Json role_chunk(const AnswerHead& head, int64_t index, bool usage_follows);
/// The last of a stream.
io::Json usage_chunk(const AnswerHead& head, const Usage& usage);

/// Server-sent event with this data.
std::string event(const std::string& data);

}  // namespace farskip::serve
