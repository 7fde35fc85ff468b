#include "serve/chat_request.h"

#include <limits>

#include "io/text.h"

namespace farskip::serve {
namespace {

using io::Fields, io::Json, util::concat;

/// A text, or a list of parts that are texts.
std::string read_content(const Json& content, const std::string& place) {
  if (content.is_string()) return content.get<std::string>();
  const char* expected = "a string or a list of {\"type\": \"text\", \"text\": ...}";
  if (!content.is_array()) refuse_field(place, io::shown(content), expected);
  std::string text;
  for (const Json& part : content) {
    const bool is_text = part.is_object() && part.value("type", Json()) == "text" &&
                         part.value("text", Json()).is_string();
    if (!is_text) refuse_field(place, io::shown(part), expected);
    text += part["text"].get<std::string>();
  }
  return text;
}

Json read_message(const Json& given, const std::string& place) {
  if (!given.is_object())
    refuse_field(place, io::shown(given), "{\"role\": ..., \"content\": ...}");
  const auto field = [&](const char* key) { return given.value(key, Json()); };
  std::string role = field("role").is_string() ? given["role"].get<std::string>() : "";
  if (role == "developer") role = "system";  // OpenAI's later name for it
  if (role != "system" && role != "user" && role != "assistant")
    refuse_field(place + ".role", io::shown(field("role")),
                 "\"system\", \"developer\", \"user\" or \"assistant\"");
  Json message = {{"role", role}, {"content", read_content(field("content"), place + ".content")}};
  for (const auto& [key, value] : given.items()) {
    // What clients send back of an answer: null, or an empty list.
    const bool empty = value.is_null() || (value.is_array() && value.empty());
    if (key == "role" || key == "content" || empty) continue;
    if (key != "name" || !value.is_string())
      refuse_field(concat(place, ".", io::printable(key)), io::shown(value),
                   "role, content and name (more is not supported)");
    message["name"] = value;
  }
  return message;
}

}  // namespace

Prompt read_messages(Parameters& parameters, const ServedModel& model, bool add_generation_prompt) {
  const Json& given = parameters.value("messages");
  if (!given.is_array() || given.empty())
    refuse_field("messages", io::shown(given), "a list of at least one message");
  if (!model.chat_template)
    throw ApiError(400,
                   "messages: found a conversation, expected a prompt for /v1/completions (the "
                   "model has no chat template)",
                   "messages", "no_chat_template");
  Json messages = Json::array();
  for (size_t i = 0; i < given.size(); ++i)
    messages.push_back(read_message(given[i], concat("messages[", i, "]")));
  Prompt prompt;
  try {
    text::Conversation talk{.messages = messages};
    talk.add_generation_prompt = add_generation_prompt;
    prompt.text = model.chat_template->render(talk).text;
  } catch (const InputError& error) {  // the template does not take these messages
    throw ApiError(400, error.what(), "messages", "invalid_value");
  }
  prompt.tokens = model.tokenizer.encode(prompt.text);
  if (prompt.tokens.empty()) refuse_field("messages", "no tokens", "at least one token");
  return prompt;
}

GenerationRequest parse_chat_request(std::string_view body, const ServedModel& model) {
  Parameters parameters(body);
  GenerationRequest request = read_common(parameters, model);
  request.endpoint = GenerationRequest::Endpoint::chat;
  const auto top = parameters.integer("top_logprobs", 0, kMostLogProbabilities);
  if (parameters.boolean("logprobs", false))
    request.log_probabilities = top.value_or(0);
  else if (top.value_or(0) > 0)
    refuse_field("top_logprobs", concat(*top), "it only with \"logprobs\": true");
  Prompt prompt = read_messages(parameters, model, /*add_generation_prompt=*/true);
  const auto old_name = parameters.integer("max_tokens", 1);
  const auto new_name = parameters.integer("max_completion_tokens", 1);
  if (old_name && new_name && *old_name != *new_name)
    refuse_field("max_tokens", concat(*old_name, " beside max_completion_tokens ", *new_name),
                 "one of them");
  limit_tokens(prompt, new_name ? new_name : old_name, std::numeric_limits<int64_t>::max(), model);
  request.prompts.push_back(std::move(prompt));
  for (const char* name : {"tools", "functions", "function_call", "audio", "prediction",
                           "reasoning_effort", "verbosity", "web_search_options"})
    parameters.refuse(name);
  parameters.refuse("tool_choice", "none");
  parameters.refuse("parallel_tool_calls", true);
  parameters.refuse("response_format", {{"type", "text"}});
  parameters.refuse("modalities", {"text"});
  parameters.finish();
  return request;
}

}  // namespace farskip::serve
