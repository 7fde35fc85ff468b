#include "io/chat_template.h"

#include <utility>

#include "io/jinja/evaluator.h"
#include "io/jinja/parser.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

constexpr int64_t kMaxTemplate = int64_t{1} << 20;

/// tokenizer_config.json, if there is one.
std::optional<Fields> tokenizer_config(const std::filesystem::path& model_directory) {
  const auto file = model_directory / "tokenizer_config.json";
  if (!std::filesystem::exists(file)) return std::nullopt;
  return Fields(read_json_file(file), file.string());
}

/// The template itself, or the default one of a list.
std::optional<std::string> template_of(const Fields& config) {
  if (!config.has("chat_template")) return std::nullopt;
  const Json& given = config.json()["chat_template"];
  if (!given.is_array()) return config.string("chat_template");
  for (size_t i = 0; i < given.size(); ++i) {
    const Fields entry(given[i], util::concat(config.label(), ": chat_template[", i, "]"));
    if (entry.string("name") == "default") return entry.string("template");
  }
  config.refuse("chat_template", "one named \"default\"");
}

}  // namespace

std::map<std::string, Json> special_tokens(const std::filesystem::path& model_directory) {
  std::map<std::string, Json> tokens;
  const auto config = tokenizer_config(model_directory);
  if (!config) return tokens;
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (config->has(name)) {
      const bool is_object = config->json()[name].is_object();
      tokens[name] = is_object ? config->object(name).string("content") : config->string(name);
    }
  return tokens;
}

struct ChatTemplate::Data {
  std::string source;
  std::vector<jinja::Statement> statements;
  std::map<std::string, Json> tokens;
  std::string name;
};

std::optional<ChatTemplate> ChatTemplate::open(const std::filesystem::path& model_directory) {
  const auto file = model_directory / "chat_template.jinja";
  std::optional<std::string> source;
  std::string name;
  if (const auto config = tokenizer_config(model_directory)) {
    source = template_of(*config);
    name = config->label() + ": chat_template";
  }
  if (std::filesystem::exists(file)) {
    source = read_file(file, kMaxTemplate);
    name = file.string();
  }
  auto tokens = special_tokens(model_directory);  // damaged ones are found without a template too
  if (!source) return std::nullopt;
  return parse(*source, std::move(tokens), std::move(name));
}

ChatTemplate ChatTemplate::parse(std::string_view source, std::map<std::string, Json> tokens,
                                 std::string name) {
  util::require(static_cast<int64_t>(source.size()) <= kMaxTemplate, name,
                util::concat(source.size(), " bytes"), util::concat("at most ", kMaxTemplate));
  auto statements = jinja::parse(source, name);
  return ChatTemplate(std::make_shared<const Data>(
      Data{std::string(source), std::move(statements), std::move(tokens), std::move(name)}));
}

const std::string& ChatTemplate::source() const {
  return data_->source;
}

std::string ChatTemplate::render(const Json& messages, bool add_generation_prompt) const {
  util::require(messages.is_array(), "messages", shown(messages), "a list");
  jinja::Evaluator::Scope variables;
  for (const auto& [token, text] : data_->tokens) variables[token] = text;
  variables["messages"] = messages;
  variables["add_generation_prompt"] = Json(add_generation_prompt);
  variables["tools"] = Json();
  variables["documents"] = Json();
  return jinja::Evaluator(data_->name, std::move(variables)).run(data_->statements);
}

}  // namespace farskip::io
