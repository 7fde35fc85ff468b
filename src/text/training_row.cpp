#include "text/training_row.h"

#include <algorithm>

#include "io/text.h"
#include "text/row_messages.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json;

/// About a row, not in it.
const std::set<std::string> kAbout = {"_id",
                                      "author",
                                      "category",
                                      "categories",
                                      "conversation_hash",
                                      "conversation_id",
                                      "created",
                                      "created_at",
                                      "dataset",
                                      "dataset_name",
                                      "date",
                                      "difficulty",
                                      "domain",
                                      "dump",
                                      "file_name",
                                      "filename",
                                      "file_path",
                                      "format",
                                      "generator",
                                      "hash",
                                      "id",
                                      "idx",
                                      "index",
                                      "info",
                                      "is_toxic",
                                      "lang",
                                      "language",
                                      "license",
                                      "length",
                                      "message_id",
                                      "meta",
                                      "metadata",
                                      "model",
                                      "model_name",
                                      "name",
                                      "num_tokens",
                                      "num_turns",
                                      "origin",
                                      "parent_id",
                                      "path",
                                      "prompt_id",
                                      "quality",
                                      "question_id",
                                      "rating",
                                      "redacted",
                                      "repo",
                                      "row_id",
                                      "score",
                                      "scores",
                                      "source",
                                      "sources",
                                      "split",
                                      "subject",
                                      "subset",
                                      "tag",
                                      "tags",
                                      "task",
                                      "task_name",
                                      "task_type",
                                      "timestamp",
                                      "title",
                                      "token_count",
                                      "tokens",
                                      "topic",
                                      "toxic",
                                      "turn",
                                      "turns",
                                      "url",
                                      "user_id",
                                      "uuid",
                                      "version"};

/// Names that say that a row of text is more than its text.
const std::set<std::string> kMore = {
    "answer",    "attention_mask", "audio",       "audios",       "chat_template_kwargs",
    "chosen",    "completion",     "context",     "conversation", "conversations",
    "documents", "functions",      "history",     "image",        "images",
    "input",     "input_ids",      "instruction", "labels",       "learn",
    "loss",      "loss_mask",      "mask",        "messages",     "output",
    "prompt",    "question",       "rejected",    "response",     "role",
    "system",    "text",           "content",     "tools",        "train",
    "trainable", "training",       "video",       "videos",       "weight"};

bool is_empty(const Json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         (value.is_structured() && value.empty());
}

/// The keys of a row, and which of them were used.
class Keys {
 public:
  Keys(const Json& row, const RowOptions& options) : row_(row), options_(options) {}

  bool has(const std::string& key) const {
    const auto found = row_.find(key);
    return found != row_.end() && !found->is_null() && !options_.ignored.contains(key);
  }
  /// Null if it isn't there.
  Json take(const std::string& key) {
    used_.insert(key);
    return has(key) ? row_.at(key) : Json();
  }
  std::string text(const std::string& key) {
    const Json value = take(key);
    util::require(value.is_string(), key, has(key) ? io::shown(value) : "no such key", "a string");
    return value.get<std::string>();
  }
  std::string text_or_nothing(const std::string& key) { return has(key) ? text(key) : ""; }
  /// The one of two names that is there; the first if neither is.
  std::string either(const char* first, const char* second) const {
    return !has(first) && has(second) ? second : first;
  }
  /// Keys that were not used and are not empty.
  std::vector<std::string> left() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : row_.items())
      if (!used_.contains(key) && !options_.ignored.contains(key) && !is_empty(value))
        keys.push_back(key);
    return keys;
  }

 private:
  const Json& row_;
  const RowOptions& options_;
  std::set<std::string> used_;
};

[[noreturn]] void refuse_key(const std::string& key, const std::string& where) {
  throw InputError(util::concat(io::printable(key), ": found a key that has no use in ", where,
                                ", expected one that has (--ignore-keys ", io::printable(key),
                                " goes on without it)"));
}

void refuse_left(const Keys& keys, const std::string& where) {
  for (const std::string& key : keys.left())
    if (!kAbout.contains(key)) refuse_key(key, where);
}

/// A list, or the JSON text of one (tables have no other way to hold lists of unlike objects).
Json list_of(const std::string& key, const Json& value) {
  if (is_empty(value)) return Json();
  Json list = value;
  if (value.is_string()) list = Json::parse(value.get<std::string>(), nullptr, false);
  util::require(list.is_array(), key, io::shown(value), "a list");
  return list.empty() ? Json() : list;
}

/// What stands beside the messages: tools and what else the template reads.
void read_beside(Keys& keys, Conversation& conversation, const RowOptions& options) {
  conversation.tools = list_of("tools", keys.take("tools"));
  conversation.documents = list_of("documents", keys.take("documents"));
  Json variables = keys.take("chat_template_kwargs");
  if (is_empty(variables)) variables = Json::object();
  util::require(variables.is_object(), "chat_template_kwargs", io::shown(variables), "an object");
  const std::set<std::string> arguments = {"messages", "tools", "documents",
                                           "add_generation_prompt", "continue_final_message"};
  for (const auto& [name, value] : variables.items())
    if (arguments.contains(name) || !options.names.variable(name))
      throw InputError("chat_template_kwargs: found " + io::in_quotes(name) +
                       ", expected what the model's chat template reads");
  for (const std::string& key : keys.left())
    if (!kAbout.contains(key) && options.names.variable(key)) variables[key] = keys.take(key);
  if (!variables.empty()) conversation.variables = std::move(variables);
}

ChatRow chat(Keys& keys, Messages messages, const std::string& where, const RowOptions& options) {
  util::require(options.names.has_template(), where, "a conversation",
                "a model with a chat template");
  ChatRow row;
  if (const std::string system = keys.text_or_nothing("system"); !system.empty()) {
    if (!messages.list.empty() && messages.list.front().at("role") == "system")
      refuse_key("system", "a conversation that has a system message");
    messages.list.insert(messages.list.begin(), Json{{"role", "system"}, {"content", system}});
    messages.learn.insert(messages.learn.begin(), false);
  }
  row.conversation.messages = std::move(messages.list);
  row.learn = std::move(messages.learn);
  read_beside(keys, row.conversation, options);
  refuse_left(keys, "a row of " + where);
  return row;
}

Messages said(const std::vector<std::pair<std::string, std::string>>& turns) {
  Messages messages;
  for (const auto& [user, assistant] : turns) {
    messages.add("user", user, false);
    messages.add("assistant", assistant, true);
  }
  return messages;
}

/// Alpaca's instruction, input and output, Dolly's instruction, context and response; `history`
/// holds earlier pairs.
TrainingRow instruction_row(Keys& keys, const RowOptions& options) {
  std::vector<std::pair<std::string, std::string>> turns;
  for (const Json& pair : list_of("history", keys.take("history"))) {
    util::require(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string(),
                  "history", io::shown(pair), "a list of [instruction, output]");
    turns.emplace_back(pair[0], pair[1]);
  }
  std::string user = keys.text("instruction");
  const std::string input = keys.text_or_nothing(keys.either("input", "context"));
  if (!input.empty()) user += (user.empty() ? "" : "\n") + input;
  turns.emplace_back(user, keys.text(keys.either("output", "response")));
  return chat(keys, said(turns), "instruction", options);
}

TrainingRow prompt_row(Keys& keys, const RowOptions& options) {
  const std::string response = keys.either("response", "completion");
  if (!keys.has(response))
    throw InputError(
        "prompt: found it without a response, expected response (or completion) beside it");
  if (keys.take("prompt").is_array()) {
    Messages messages = read_messages("prompt", keys.take("prompt"), options.names);
    std::fill(messages.learn.begin(), messages.learn.end(), false);
    const Messages more = read_messages(response, keys.take(response), options.names);
    messages.list.insert(messages.list.end(), more.list.begin(), more.list.end());
    messages.learn.insert(messages.learn.end(), more.learn.begin(), more.learn.end());
    return chat(keys, std::move(messages), "prompt and " + response, options);
  }
  PromptRow row{keys.text("prompt"), keys.text(response)};
  refuse_left(keys, "a row of prompt and " + response);
  return row;
}

}  // namespace

TrainingRow read_row(const Json& json, const RowOptions& options) {
  Keys keys(json, options);
  for (const char* preferred : {"chosen", "rejected"})
    util::require(!keys.has(preferred), preferred, "a row of preferences",
                  "rows that say what is learnt (text, prompt and response, messages)");
  for (const char* key : {"messages", "conversations", "conversation"})
    if (keys.has(key))
      return chat(keys, read_messages(key, keys.take(key), options.names), key, options);
  if (keys.has("instruction") && (keys.has("output") || keys.has("response")))
    return instruction_row(keys, options);
  if (keys.has("prompt")) return prompt_row(keys, options);
  if (keys.has("question") && keys.has("answer"))
    return chat(keys, said({{keys.text("question"), keys.text("answer")}}), "question and answer",
                options);
  for (const char* key : {"text", "content"}) {
    if (!keys.has(key)) continue;
    TextRow row{keys.text(key)};
    for (const std::string& other : keys.left())
      if (kMore.contains(other)) refuse_key(other, util::concat("a row of ", key));
    return row;
  }
  std::string names;
  for (const auto& [key, value] : json.items()) names += (names.empty() ? "" : ", ") + key;
  throw InputError(util::concat("found the keys ", io::in_quotes(names),
                                ", expected text, prompt and response, or messages "
                                "(docs/training.md lists others)"));
}

}  // namespace farskip::text
