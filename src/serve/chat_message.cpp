#include "serve/chat_message.h"

#include <algorithm>

#include "io/text.h"
#include "serve/parameters.h"
#include "util/error.h"

namespace farskip::serve {
namespace {

using io::Json, util::concat;

constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};
/// Texts that templates look at beside role and content.
constexpr const char* kTexts[] = {"name", "tool_call_id", "reasoning_content", "reasoning"};

template <size_t N>
bool contains(const char* const (&list)[N], const std::string& text) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

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

/// OpenAI has the arguments as JSON in a text, templates as an object.
Json read_tool_calls(const Json& given, const std::string& place) {
  const char* expected =
      "a list of {\"id\", \"type\": \"function\", \"function\": {\"name\", "
      "\"arguments\": a JSON object as text}}";
  if (!given.is_array()) refuse_field(place, io::shown(given), expected);
  Json calls = given;
  for (Json& call : calls) {
    if (!call.is_object() || !call.value("function", Json()).is_object() ||
        !call["function"].value("name", Json()).is_string())
      refuse_field(place, io::shown(call), expected);
    Json& arguments = call["function"]["arguments"];
    const bool is_text = arguments.is_string();
    try {
      if (is_text && !arguments.get_ref<const std::string&>().empty())
        arguments = parse_client_json(arguments.get<std::string>(), "arguments");
      else if (is_text || arguments.is_null())
        arguments = Json::object();
    } catch (const InputError&) {
      refuse_field(place, io::shown(arguments), expected);
    }
    if (!arguments.is_object()) refuse_field(place, io::shown(arguments), expected);
  }
  return calls;
}

}  // namespace

Json read_message(const Json& given, const std::string& place) {
  if (!given.is_object())
    refuse_field(place, io::shown(given), "{\"role\": ..., \"content\": ...}");
  const auto field = [&](const char* key) { return given.value(key, Json()); };
  const Json role = field("role"), calls = field("tool_calls");
  if (!role.is_string() || !contains(kRoles, role.get<std::string>()))
    refuse_field(place + ".role", io::shown(role),
                 "\"system\", \"developer\", \"user\", \"assistant\", \"tool\" or \"function\"");
  const bool calls_tools = role == "assistant" && calls.is_array() && !calls.empty();
  Json message = {{"role", role}};
  // An answer that is calls alone has no text, and templates may tell that from an empty one.
  if (calls_tools && field("content").is_null())
    message["content"] = nullptr;
  else
    message["content"] = read_content(field("content"), place + ".content");
  for (const auto& [key, value] : given.items()) {
    // What clients send back of an answer: null, or an empty list.
    const bool empty = value.is_null() || (value.is_array() && value.empty());
    if (key == "role" || key == "content" || empty) continue;
    if (key == "tool_calls" && calls_tools)
      message[key] = read_tool_calls(value, place + ".tool_calls");
    else if (contains(kTexts, key) && value.is_string())
      message[key] = value;
    else
      refuse_field(concat(place, ".", io::printable(key)), io::shown(value),
                   "role, content, name, tool_calls, tool_call_id and reasoning_content (more is "
                   "not supported)");
  }
  return message;
}

Json with_text_arguments(Json message, const Json& given) {
  for (size_t i = 0; message.contains("tool_calls") && i < message["tool_calls"].size(); ++i) {
    const Json& function = given["tool_calls"][i]["function"];
    if (function.value("arguments", Json()).is_string())
      message["tool_calls"][i]["function"]["arguments"] = function["arguments"];
  }
  return message;
}

}  // namespace farskip::serve
