#include "serve/tokenize.h"

#include "serve/chat_request.h"
#include "serve/logprobs.h"

namespace farskip::serve {

using io::Json;

Json tokenize(std::string_view body, const ServedModel& model) {
  Parameters parameters(body);
  read_model(parameters, model);
  const auto text = parameters.string("prompt");
  const bool is_chat = !parameters.value("messages").is_null();
  if (is_chat == text.has_value())
    throw ApiError(400,
                   util::concat("prompt: found ", is_chat ? "both" : "neither",
                                " it and messages, expected exactly one"),
                   "prompt", "invalid_value");
  std::vector<int64_t> tokens;
  if (is_chat)
    tokens = read_conversation(parameters, model).tokens;
  else
    tokens = model.tokenizer.encode(*text, parameters.boolean("add_special_tokens", true));
  const bool with_texts = parameters.boolean("return_token_strs", false);
  parameters.finish();
  Json answer = {
      {"count", tokens.size()}, {"max_model_len", model.max_sequence}, {"tokens", tokens}};
  if (!with_texts) return answer;
  Json texts = Json::array();
  for (const int64_t token : tokens) texts.push_back(token_text(model.tokenizer, token));
  answer["token_strs"] = std::move(texts);
  return answer;
}

Json tokenizer_info(const ServedModel& model) {
  Json info = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"bos_token", nullptr},
               {"eos_token", nullptr},
               {"pad_token", nullptr},
               {"chat_template", nullptr},
               {"model_max_length", model.max_sequence}};
  if (!model.eos_tokens.empty())
    info["eos_token"] =
        model.tokenizer.decode(std::span(model.eos_tokens).first(1), /*skip_special_tokens=*/false);
  for (const auto& [name, text] : model.tokenizer.special_tokens()) info[name] = text;
  if (model.chat_template) info["chat_template"] = model.chat_template->source();
  return info;
}

Json detokenize(std::string_view body, const ServedModel& model) {
  Parameters parameters(body);
  read_model(parameters, model);
  const auto tokens = parameters.integers("tokens", 0, model.tokenizer.vocabulary_size() - 1);
  parameters.finish();
  return {{"prompt", model.tokenizer.decode(tokens, /*skip_special_tokens=*/false)}};
}

}  // namespace farskip::serve
