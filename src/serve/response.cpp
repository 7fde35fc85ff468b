#include "serve/response.h"

#include <utility>

namespace farskip::serve {
namespace {

using io::Json;

bool is_chat(const AnswerHead& head) {
  return head.endpoint == GenerationRequest::Endpoint::chat;
}

Json with_head(const AnswerHead& head, const char* chat_object, Json choices) {
  return {{"id", head.id},
          {"object", is_chat(head) ? chat_object : "text_completion"},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

Json one_chunk(const AnswerHead& head, Json choice, bool usage_follows) {
  Json choices = Json::array();
  choices.push_back(std::move(choice));
  Json json = with_head(head, "chat.completion.chunk", std::move(choices));
  if (usage_follows) json["usage"] = nullptr;
  return json;
}

/// `content`: of a choice in the form of its endpoint.
Json choice_json(const Choice& choice, std::pair<const char*, Json> content) {
  return {{"index", choice.index},
          {content.first, std::move(content.second)},
          {"logprobs", choice.logprobs},
          {"finish_reason", choice.finish_reason}};
}

}  // namespace

Json Usage::json() const {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens}}}};
}

Json whole_answer(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) {
  Json list = Json::array();
  for (const Choice& choice : choices) {
    const Json message = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    list.push_back(is_chat(head) ? choice_json(choice, {"message", message})
                                 : choice_json(choice, {"text", choice.text}));
  }
  Json json = with_head(head, "chat.completion", std::move(list));
  json["usage"] = usage.json();
  return json;
}

Json chunk(const AnswerHead& head, const Choice& choice, bool usage_follows) {
  Json delta = Json::object();
  if (!choice.text.empty()) delta["content"] = choice.text;
  return one_chunk(head,
                   is_chat(head) ? choice_json(choice, {"delta", delta})
                                 : choice_json(choice, {"text", choice.text}),
                   usage_follows);
}

Json role_chunk(const AnswerHead& head, int64_t index, bool usage_follows) {
  const Json delta = {{"role", "assistant"}, {"content", ""}};
  return one_chunk(head, choice_json({.index = index}, {"delta", delta}), usage_follows);
}

Json usage_chunk(const AnswerHead& head, const Usage& usage) {
  Json json = with_head(head, "chat.completion.chunk", Json::array());
  json["usage"] = usage.json();
  return json;
}

std::string event(const std::string& data) {
  return "data: " + data + "\n\n";
}

}  // namespace farskip::serve
