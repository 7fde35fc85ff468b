#include "serve/completion_request.h"

#include <algorithm>

namespace farskip::serve {
namespace {

using io::Json, util::concat;

/// What OpenAI generates where nobody says how much.
constexpr int64_t kDefaultTokens = 16;

[[noreturn]] void refuse_prompt(const Json& found, const ServedModel& model) {
  refuse_field("prompt", io::shown(found),
               concat("a text, token ids from 0 to ", model.vocabulary - 1,
                      ", or a list of either, none empty"));
}

Prompt text_prompt(const Json& text, const ServedModel& model, bool add_special_tokens) {
  Prompt prompt;
  prompt.text = text.get<std::string>();
  prompt.tokens = model.tokenizer.encode(prompt.text, add_special_tokens);
  if (prompt.tokens.empty()) refuse_prompt(text, model);
  return prompt;
}

Prompt token_prompt(const Json& ids, const ServedModel& model, bool skip_special_tokens) {
  Prompt prompt;
  for (const Json& id : ids) {
    const bool whole = id.is_number_integer() && id.get<int64_t>() >= 0;
    if (!whole || id.get<uint64_t>() >= static_cast<uint64_t>(model.vocabulary))
      refuse_prompt(id, model);
    prompt.tokens.push_back(id.get<int64_t>());
  }
  // A model's vocabulary may be larger than its tokenizer's.
  std::vector<int64_t> with_text = prompt.tokens;
  std::erase_if(with_text, [&](int64_t id) { return id >= model.tokenizer.vocabulary_size(); });
  prompt.text = model.tokenizer.decode(with_text, skip_special_tokens);
  return prompt;
}

}  // namespace

std::vector<Prompt> read_prompts(Parameters& parameters, const ServedModel& model,
                                 bool add_special_tokens, bool skip_special_tokens) {
  const Json& given = parameters.value("prompt");
  const auto one = [&](const Json& prompt) {
    if (prompt.is_string()) return text_prompt(prompt, model, add_special_tokens);
    if (!prompt.is_array() || prompt.empty()) refuse_prompt(prompt, model);
    return token_prompt(prompt, model, skip_special_tokens);
  };
  const bool is_list = given.is_array() && !given.empty() && !given.front().is_number();
  if (!is_list) return {one(given)};
  std::vector<Prompt> prompts;
  for (const Json& prompt : given) {
    if (prompt.type() != given.front().type()) refuse_prompt(given, model);
    prompts.push_back(one(prompt));
  }
  return prompts;
}

GenerationRequest parse_completion_request(std::string_view body, const ServedModel& model) {
  Parameters parameters(body);
  GenerationRequest request = read_common(parameters, model);
  request.echo = parameters.boolean("echo", false);
  request.log_probabilities = parameters.integer("logprobs", 0, kMostLogProbabilities);
  request.prompts = read_prompts(parameters, model, parameters.boolean("add_special_tokens", true),
                                 request.output.skip_special_tokens);
  const auto max_tokens = parameters.integer("max_tokens", 0);
  if (max_tokens == 0 && !request.echo)
    refuse_field("max_tokens", "0", "at least 1 without \"echo\": true");
  for (Prompt& prompt : request.prompts) limit_tokens(prompt, max_tokens, kDefaultTokens, model);
  parameters.refuse("best_of", request.choices);
  parameters.refuse("suffix", "");
  parameters.finish();
  return request;
}

}  // namespace farskip::serve
