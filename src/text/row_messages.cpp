#include "text/row_messages.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "io/text.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json;

constexpr std::array kLearnt = {"weight", "train",     "training", "trainable",
                                "loss",   "loss_mask", "learn"};
/// About a message, not in it, or read by some templates only without a loss in others.
const std::set<std::string> kAbout = {
    "id",       "name",        "tool_call_id", "message_id", "parent_id", "uuid",          "index",
    "turn",     "date",        "timestamp",    "created_at", "model",     "model_name",    "source",
    "language", "lang",        "score",        "rating",     "rank",      "finish_reason", "usage",
    "tokens",   "token_count", "toxic",        "redacted",   "metadata",  "hash"};
const std::map<std::string, std::string> kRoles = {
    {"human", "user"},       {"prompter", "user"},
    {"gpt", "assistant"},    {"chatgpt", "assistant"},
    {"bing", "assistant"},   {"bard", "assistant"},
    {"bot", "assistant"},    {"model", "assistant"},
    {"observation", "tool"}, {"function_response", "tool"}};
constexpr std::array kOwnRoles = {"system", "developer", "user", "assistant", "tool"};

bool is_empty(const Json& value) {
  return value.is_null() || (value.is_structured() && value.empty());
}

class Reader {
 public:
  Reader(std::string place, const Json& given, const TemplateNames& names)
      : place_(std::move(place)), given_(given), names_(names) {
    util::require(given.is_object(), place_, io::shown(given), "{\"role\", \"content\"}");
  }

  void read(Messages& into) const {
    const bool sharegpt = given_.contains("from");
    const char* role_key = sharegpt ? "from" : "role";
    const char* content_key = sharegpt ? "value" : "content";
    std::string role = string(role_key);
    Json message = Json::object();
    if (role == "function_call" && !names_.field(role)) {
      role = "assistant";
      message = {{"role", role}, {"content", nullptr}, {"tool_calls", calls(string(content_key))}};
    } else {
      role = role_of(role, role_key);
      message["role"] = role;
      const auto content = given_.find(content_key);
      message["content"] = content == given_.end() ? Json() : *content;
      check_content(message["content"], role, content_key);
    }
    bool learnt = role == "assistant";
    for (const auto& [key, value] : given_.items()) {
      if (key == role_key || key == content_key || is_empty(value)) continue;
      if (is_weight(key)) {
        learnt = weight(key, value, role) && learnt;
      } else if (names_.field(key) || kAbout.contains(key)) {
        message[key] = value;
      } else {
        throw InputError(place_ + ": found the key " + io::in_quotes(key) +
                         ", expected what the model's chat template reads");
      }
    }
    into.list.push_back(std::move(message));
    into.learn.push_back(learnt);
  }

 private:
  static bool is_weight(const std::string& key) {
    return std::find(kLearnt.begin(), kLearnt.end(), key) != kLearnt.end();
  }

  std::string string(const char* key) const {
    const auto value = given_.find(key);
    util::require(value != given_.end() && value->is_string(), util::concat(place_, ": ", key),
                  value == given_.end() ? "no such key" : io::shown(*value), "a string");
    return value->get<std::string>();
  }

  std::string role_of(const std::string& role, const char* key) const {
    if (std::find(kOwnRoles.begin(), kOwnRoles.end(), role) != kOwnRoles.end()) return role;
    const auto known = kRoles.find(role);
    if (known != kRoles.end()) return known->second;
    util::require(names_.field(role), util::concat(place_, ": ", key), io::in_quotes(role),
                  "system, user, assistant, tool, or a role that the chat template names");
    return role;
  }

  void check_content(const Json& content, const std::string& role, const char* key) const {
    if (content.is_string() || (content.is_null() && role == "assistant")) return;
    bool parts = content.is_array() && !content.empty();
    for (const Json& part : parts ? content : Json::array())
      parts = parts && part.is_object() && part.value("type", Json()) == "text" &&
              part.value("text", Json()).is_string();
    util::require(parts, util::concat(place_, ": ", key), io::shown(content),
                  "a string, or a list of {\"type\": \"text\", \"text\": ...}");
  }

  bool weight(const std::string& key, const Json& value, const std::string& role) const {
    const std::string what = place_ + ": " + key;
    const bool one = value == true || value == 1, zero = value == false || value == 0;
    util::require(one || zero, what, io::shown(value), "0 or 1 (false or true)");
    util::require(zero || role == "assistant", what, io::shown(value) + " of a message of " + role,
                  "it of the assistant's messages only");
    return one;
  }

  /// ShareGPT's function_call: the JSON text of a call or of a list of them.
  Json calls(const std::string& text) const {
    const Json parsed = Json::parse(text, nullptr, false);
    Json list = Json::array();
    for (const Json& call : parsed.is_array() ? parsed : Json::array({parsed})) {
      util::require(call.is_object() && call.contains("name") && call.contains("arguments"),
                    place_ + ": function_call", io::in_quotes(text, 80),
                    "JSON {\"name\", \"arguments\"}");
      list.push_back({{"type", "function"}, {"function", call}});
    }
    return list;
  }

  std::string place_;
  const Json& given_;
  const TemplateNames& names_;
};

}  // namespace

void Messages::add(const char* role, const std::string& content, bool learnt) {
  list.push_back({{"role", role}, {"content", content}});
  learn.push_back(learnt);
}

Messages read_messages(const std::string& key, const Json& value, const TemplateNames& names) {
  util::require(value.is_array() && !value.empty(), key, io::shown(value),
                "a list of {\"role\", \"content\"}");
  Messages messages;
  for (size_t i = 0; i < value.size(); ++i)
    Reader(util::concat(key, "[", i, "]"), value[i], names).read(messages);
  return messages;
}

void flatten(Json& messages) {
  for (Json& message : messages) {
    if (!message["content"].is_array()) continue;
    std::string text;
    for (const Json& part : message["content"]) text += part.at("text").get<std::string>();
    message["content"] = text;
  }
}

}  // namespace farskip::text
