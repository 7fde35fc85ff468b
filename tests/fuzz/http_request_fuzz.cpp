// The first byte chooses an endpoint; what follows is the body of a request to it: refused in one
// line with a status of the client's, or a request within its limits.
#include <cstdint>
#include <cstdlib>

#include "byte_tokenizer.h"
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/tokenize.h"

namespace {

using namespace farskip;

constexpr int64_t kVocabulary = 260, kContext = 512;

serve::ServedModel small_model() {
  return {.names = {"model"},
          .tokenizer = text::Tokenizer(std::make_shared<const ByteTokenizer>()),
          .chat_template = text::ChatTemplate(std::make_shared<const PlainTemplates>(), "plain"),
          .eos_tokens = {256},
          .vocabulary = kVocabulary,
          .max_sequence = kContext};
}

void expect(bool holds) {
  if (!holds) std::abort();
}

void check(const serve::GenerationRequest& request) {
  expect(!request.prompts.empty() && request.choices >= 1 && request.choices <= 128);
  for (const serve::Prompt& prompt : request.prompts) {
    expect(!prompt.tokens.empty() && prompt.max_tokens >= 0);
    expect(static_cast<int64_t>(prompt.tokens.size()) + prompt.max_tokens <= kContext);
    for (const int64_t token : prompt.tokens) expect(token >= 0 && token < kVocabulary);
    expect(io::first_invalid_utf8(prompt.text) == prompt.text.size());
  }
  const auto& sampling = request.sampling;
  expect(sampling.temperature >= 0 && sampling.top_p > 0 && sampling.top_p <= 1);
  expect(sampling.top_k >= 0 && sampling.min_p >= 0 && sampling.repetition_penalty > 0);
  for (const auto& [token, bias] : sampling.logit_bias)
    expect(token >= 0 && token < kVocabulary && bias >= -100 && bias <= 100);
  for (const std::string& stop : request.output.stops) expect(!stop.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const serve::ServedModel model = small_model();
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0] % 4) {
      case 0:
        check(serve::parse_completion_request(body, model));
        break;
      case 1:
        check(serve::parse_chat_request(body, model));
        break;
      case 2:
        serve::json_text(serve::tokenize(body, model));
        break;
      default:
        serve::json_text(serve::detokenize(body, model));
    }
  } catch (const serve::ApiError& error) {
    expect(error.status == 400 || error.status == 404);
    const std::string answer = serve::error_response(error).body;
    expect(answer.find('\n') == std::string::npos);
    io::Json::parse(answer);
  }
  return 0;
}
