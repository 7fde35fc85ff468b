#include "serve/chat_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "io/text.h"
#include "serve/chat_message.h"

namespace farskip::serve {
namespace {

using io::Json, util::concat;

/// What a conversation says by itself, not by chat_template_kwargs.
constexpr const char* kOwnWords[] = {"messages", "tools", "documents", "add_generation_prompt",
                                     "continue_final_message"};

bool is_empty(const Json& value) {
  return value.is_null() || (value.is_structured() && value.empty());
}

/// A list of objects; null for an empty one.
Json read_objects(Parameters& parameters, const char* name) {
  const Json& given = parameters.value(name);
  if (is_empty(given)) return nullptr;
  if (!given.is_array()) refuse_field(name, io::shown(given), "a list of objects");
  for (const Json& entry : given)
    if (!entry.is_object()) refuse_field(name, io::shown(entry), "a list of objects");
  return given;
}

/// Reads messages; a template that does not know a developer has one as system, which is OpenAI's
/// earlier name for it.
Json read_messages(Parameters& parameters, const text::ChatTemplate& chat) {
  const Json& given = parameters.value("messages");
  if (!given.is_array() || given.empty())
    refuse_field("messages", io::shown(given), "a list of at least one message");
  const bool knows_developer = chat.source().find("developer") != std::string::npos;
  Json messages = Json::array();
  for (size_t i = 0; i < given.size(); ++i) {
    Json message = read_message(given[i], concat("messages[", i, "]"));
    if (message["role"] == "developer" && !knows_developer) message["role"] = "system";
    messages.push_back(std::move(message));
  }
  return messages;
}

/// Tools as the template gets them: "none" says that no answer is to call one.
Json read_tools(Parameters& parameters) {
  Json tools = read_objects(parameters, "tools");
  const Json& choice = parameters.value("tool_choice");
  if (choice == "none") return nullptr;
  if (!choice.is_null() && choice != "auto")
    refuse_field("tool_choice", io::shown(choice), "\"auto\" or \"none\" (more is not supported)");
  return tools;
}

/// chat_template_kwargs, and reasoning_effort beside them.
Json read_variables(Parameters& parameters, const text::ChatTemplate& chat, bool has_tools) {
  const auto given = parameters.object("chat_template_kwargs");
  Json variables = given ? given->json() : Json::object();
  if (const auto effort = parameters.string("reasoning_effort")) {
    if (!variables.value("reasoning_effort", Json(*effort)).is_string() ||
        variables.value("reasoning_effort", *effort) != *effort)
      refuse_field("reasoning_effort", *effort, "what chat_template_kwargs says");
    variables["reasoning_effort"] = *effort;
  }
  for (const auto& [key, value] : variables.items()) {
    const bool own =
        std::find(std::begin(kOwnWords), std::end(kOwnWords), key) != std::end(kOwnWords);
    // With tools it may be another template, whose words are not known here.
    if (own || (!has_tools && chat.source().find(key) == std::string::npos))
      refuse_field(key == "reasoning_effort" ? key : "chat_template_kwargs", io::in_quotes(key),
                   own ? "it beside messages" : "words that the model's chat template looks at");
  }
  return variables;
}

/// Templates take the arguments of tool calls as objects; some of before that, DeepSeek's, as text.
std::string render(const text::ChatTemplate& chat, text::Conversation& talk, const Json& given) {
  try {
    return chat.render(talk).text;
  } catch (const InputError& error) {  // the template does not take these messages
    Json messages = Json::array();
    for (size_t i = 0; i < given.size(); ++i)
      messages.push_back(with_text_arguments(talk.messages[i], given[i]));
    try {
      if (std::exchange(talk.messages, messages) != messages) return chat.render(talk).text;
    } catch (const InputError&) {  // the first error is told
    }
    throw ApiError(400, error.what(), "messages", "invalid_value");
  }
}

/// Refuses what the template leaves out without a word: the text is the same without it.
void require_used(const text::ChatTemplate& chat, const text::Conversation& whole,
                  const std::string& text) {
  const auto require_change = [&](const text::Conversation& less, const std::string& name) {
    try {
      if (chat.render(less).text != text) return;
    } catch (const InputError&) {
      return;  // the template can't do without
    }
    refuse_field(name, "what the model's chat template does not write", "no such field or role");
  };
  text::Conversation less = whole;
  if (!std::exchange(less.tools, nullptr).is_null()) require_change(less, "tools");
  less = whole;
  if (!std::exchange(less.documents, nullptr).is_null()) require_change(less, "documents");
  for (size_t i = 0; i < whole.messages.size(); ++i) {
    if (!whole.messages[i].contains("tool_calls")) continue;
    less = whole;
    less.messages[i].erase("tool_calls");
    require_change(less, concat("messages[", i, "].tool_calls"));
    break;
  }
  for (const char* role : {"tool", "function", "developer"})
    for (size_t i = 0; i < whole.messages.size(); ++i) {
      if (whole.messages[i]["role"] != role) continue;
      less = whole;
      less.messages.erase(i);
      require_change(less, concat("messages[", i, "].role"));
      break;
    }
}

}  // namespace

Prompt read_conversation(Parameters& parameters, const ServedModel& model) {
  if (!model.chat_template) {
    const std::string why = model.no_template.empty() ? "it has no chat template"
                                                      : "its chat template: " + model.no_template;
    throw ApiError(
        400,
        concat("messages: found a conversation, expected a prompt for /v1/completions (", why, ")"),
        "messages", "no_chat_template");
  }
  const text::ChatTemplate& chat = *model.chat_template;
  text::Conversation talk;
  talk.messages = read_messages(parameters, chat);
  talk.tools = read_tools(parameters);
  talk.documents = read_objects(parameters, "documents");
  talk.variables = read_variables(parameters, chat, !talk.tools.is_null());
  talk.continue_final_message = parameters.boolean("continue_final_message", false);
  talk.add_generation_prompt =
      parameters.boolean("add_generation_prompt", !talk.continue_final_message);
  if (talk.continue_final_message && talk.add_generation_prompt)
    refuse_field("continue_final_message", "it beside add_generation_prompt", "one of them");
  parameters.refuse("chat_template");
  Prompt prompt;
  prompt.text = render(chat, talk, parameters.value("messages"));
  require_used(chat, talk, prompt.text);
  prompt.tokens =
      model.tokenizer.encode(prompt.text, parameters.boolean("add_special_tokens", false));
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
  Prompt prompt = read_conversation(parameters, model);
  const auto old_name = parameters.integer("max_tokens", 1);
  const auto new_name = parameters.integer("max_completion_tokens", 1);
  if (old_name && new_name && *old_name != *new_name)
    refuse_field("max_tokens", concat(*old_name, " beside max_completion_tokens ", *new_name),
                 "one of them");
  limit_tokens(prompt, new_name ? new_name : old_name, std::numeric_limits<int64_t>::max(), model);
  request.prompts.push_back(std::move(prompt));
  for (const char* name :
       {"functions", "function_call", "audio", "prediction", "verbosity", "web_search_options"})
    parameters.refuse(name);
  parameters.refuse("parallel_tool_calls", true);
  parameters.refuse("response_format", {{"type", "text"}});
  parameters.refuse("modalities", {"text"});
  parameters.finish();
  return request;
}

}  // namespace farskip::serve
