// JSON bodies to requests, or to the error that names the field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/support.h"

namespace farskip::serve {
namespace {

using io::Json;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(CompletionRequest, HasOpenAisDefaults) {
  const auto request = parse_completion_request(R"({"prompt": "Once upon"})", demo_model());
  EXPECT_EQ(request.model, "demo");
  ASSERT_EQ(request.prompts.size(), 1u);
  EXPECT_EQ(request.prompts[0].tokens, ids("Once upon"));
  EXPECT_EQ(request.prompts[0].text, "Once upon");
  EXPECT_EQ(request.prompts[0].max_tokens, 16);
  EXPECT_EQ(request.choices, 1);
  EXPECT_EQ(request.sampling.temperature, 1);
  EXPECT_EQ(request.sampling.top_p, 1);
  EXPECT_EQ(request.stop_tokens, std::vector<int64_t>{0});
  EXPECT_FALSE(request.echo || request.stream || request.include_usage);
  EXPECT_FALSE(request.log_probabilities);
  // Without a seed every request draws anew.
  const auto again = parse_completion_request(R"({"prompt": "Once upon"})", demo_model());
  EXPECT_NE(request.sampling.seed, again.sampling.seed);
}

TEST(CompletionRequest, ReadsEveryField) {
  const auto request = parse_completion_request(
      R"({"model": "alias", "prompt": [[5, 6], [7]], "n": 2, "best_of": 2, "max_tokens": 3,
          "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1,
          "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {"5": -100, "9": 1.5},
          "stop": ["a", "bc"], "stop_token_ids": [3], "ignore_eos": true, "seed": -1, "echo": true,
          "logprobs": 5, "stream": true, "stream_options": {"include_usage": true}, "user": "me",
          "suffix": null, "add_special_tokens": false, "skip_special_tokens": false,
          "include_stop_str_in_output": true, "min_tokens": 0})",
      demo_model());
  EXPECT_EQ(request.model, "alias");
  ASSERT_EQ(request.prompts.size(), 2u);
  EXPECT_THAT(request.prompts[0].tokens, ElementsAre(5, 6));
  EXPECT_EQ(request.prompts[0].text, demo_model().tokenizer.decode(std::vector<int64_t>{5, 6}));
  EXPECT_EQ(request.prompts[1].max_tokens, 3);
  EXPECT_EQ(request.choices, 2);
  const auto& sampling = request.sampling;
  EXPECT_EQ(sampling.temperature, 0.5);
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.min_p, 0.1);
  EXPECT_EQ(sampling.repetition_penalty, 1.1);
  EXPECT_EQ(sampling.presence_penalty, 0.5);
  EXPECT_EQ(sampling.frequency_penalty, -0.5);
  EXPECT_THAT(sampling.logit_bias, ElementsAre(testing::Pair(5, -100), testing::Pair(9, 1.5)));
  EXPECT_EQ(sampling.seed, ~uint64_t{0});
  EXPECT_THAT(request.output.stops, ElementsAre("a", "bc"));
  EXPECT_TRUE(request.output.include_stop && !request.output.skip_special_tokens);
  EXPECT_THAT(request.stop_tokens, ElementsAre(3));
  EXPECT_TRUE(request.echo && request.stream && request.include_usage);
  EXPECT_EQ(request.log_probabilities, 5);
}

TEST(CompletionRequest, TakesPromptsOfEveryKind) {
  const std::pair<const char*, std::vector<std::vector<int64_t>>> cases[] = {
      {R"("Once")", {ids("Once")}}, {R"(["Once", "upon a"])", {ids("Once"), ids("upon a")}},
      {"[5, 6, 7]", {{5, 6, 7}}},   {"[[5], [6, 7]]", {{5}, {6, 7}}},
      {"[[4095]]", {{4095}}},
  };
  for (const auto& [prompt, expected] : cases) {
    const auto request = parse_completion_request(
        "{\"prompt\": " + std::string(prompt) + ", \"max_tokens\": 1}", demo_model());
    ASSERT_EQ(request.prompts.size(), expected.size()) << prompt;
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(request.prompts[i].tokens, expected[i]) << prompt;
  }
}

TEST(ChatRequest, RendersMessages) {
  const auto request = parse_chat_request(
      R"({"messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "name": "me", "content": [{"type": "text", "text": "Who "},
                                                       {"type": "text", "text": "is it?"}]},
            {"role": "assistant", "content": "I.", "tool_calls": null, "refusal": null},
            {"role": "user", "content": "Why?"}],
          "logprobs": true, "top_logprobs": 2, "tools": [], "tool_choice": "none", "reasoning_effort": null,
          "response_format": {"type": "text"}})",
      demo_model());
  EXPECT_EQ(request.prompts[0].text,
            "<|user|>\nBe kind.\n<|user|>\nWho is it?\n<|assistant|>\nI.<|endoftext|><|user|>\n"
            "Why?\n<|assistant|>\n");
  EXPECT_EQ(request.prompts[0].tokens, demo_model().tokenizer.encode(request.prompts[0].text));
  // What is left of the context.
  EXPECT_EQ(request.prompts[0].max_tokens,
            4096 - static_cast<int64_t>(request.prompts[0].tokens.size()));
  EXPECT_EQ(request.log_probabilities, 2);
  for (const char* limit : {"max_tokens", "max_completion_tokens"})
    EXPECT_EQ(parse_chat_request(R"({"messages": [{"role": "user", "content": "a"}], ")" +
                                     std::string(limit) + "\": 7}",
                                 demo_model())
                  .prompts[0]
                  .max_tokens,
              7);
}

struct Refused {
  const char* body;
  const char* param;  ///< "" for none
  const char* message;
  int status = 400;
};

template <class Parse>
void expect_refused(const Refused& one, Parse parse) {
  try {
    parse(one.body, demo_model());
    ADD_FAILURE() << one.body << " was not refused";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, one.status) << one.body;
    EXPECT_EQ(error.param.value_or(""), one.param) << one.body;
    EXPECT_THAT(error.what(), HasSubstr(one.message)) << one.body;
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << one.body;
    EXPECT_EQ(error_json(error)["error"]["type"], "invalid_request_error");
  }
}

TEST(CompletionRequest, RefusesByName) {
  const Refused cases[] = {
      {"", "", "found nothing"},
      {"{", "", "invalid JSON"},
      {"[1, 2]", "", "expected an object"},
      {"\"prompt\"", "", "expected an object"},
      {"nonsense", "", "invalid JSON"},
      {R"({"prompt": "a",})", "", "invalid JSON"},
      {R"({"prompt": "a"} {})", "", "invalid JSON"},
      {R"({"prompt": "a", "prompt": "b"})", "", "twice"},
      {"{\"prompt\": \"\xff\xfe\"}", "", "invalid JSON"},
      {"{\"prompt\": \"\xed\xa0\x80\"}", "", "invalid JSON"},
      {R"({"prompt": "\ud800"})", "", "invalid JSON"},
      {R"({"prompt": "a", "temperature": NaN})", "", "invalid JSON"},
      {R"({"prompt": "a", "temperature": Infinity})", "", "invalid JSON"},
      {R"({"prompt": "a", "temperature": 1e999})", "", "invalid JSON"},
      {R"({"max_tokens": 1})", "prompt", "found null"},
      {R"({"prompt": ""})", "prompt", "none empty"},
      {R"({"prompt": []})", "prompt", "none empty"},
      {R"({"prompt": [[]]})", "prompt", "none empty"},
      {R"({"prompt": ["a", ""]})", "prompt", "none empty"},
      {R"({"prompt": 5})", "prompt", "found 5"},
      {R"({"prompt": {"text": "a"}})", "prompt", "token ids"},
      {R"({"prompt": ["a", [5]]})", "prompt", "token ids"},
      {R"({"prompt": [5, "a"]})", "prompt", "token ids"},
      {R"({"prompt": [5, null]})", "prompt", "found null"},
      {R"({"prompt": [-1]})", "prompt", "found -1"},
      {R"({"prompt": [4096]})", "prompt", "found 4096"},
      {R"({"prompt": [1.5]})", "prompt", "found 1.5"},
      {R"({"prompt": [99999999999999999999]})", "prompt", "found 1e+20"},
      {R"({"prompt": [true]})", "prompt", "found true"},
      {R"({"prompt": "a", "model": "gpt-4"})", "model", "expected \"demo\"", 404},
      {R"({"prompt": "a", "model": 5})", "model", "a string"},
      {R"({"prompt": "a", "max_tokens": -1})", "max_tokens", "found -1"},
      {R"({"prompt": "a", "max_tokens": 0})", "max_tokens", "without \"echo\""},
      {R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens", "an integer"},
      {R"({"prompt": "a", "max_tokens": "5"})", "max_tokens", "an integer"},
      {R"({"prompt": "a", "max_tokens": 5000})", "max_tokens", "maximum context length"},
      {R"({"prompt": "a", "max_tokens": 9223372036854775807})", "max_tokens", "maximum context"},
      {R"({"prompt": "a", "max_tokens": 1e300})", "max_tokens", "an integer"},
      {R"({"prompt": "a", "n": 0})", "n", "found 0"},
      {R"({"prompt": "a", "n": 129})", "n", "found 129"},
      {R"({"prompt": "a", "best_of": 3})", "best_of", "found 3"},
      {R"({"prompt": "a", "suffix": "b"})", "suffix", "found \"b\""},
      {R"({"prompt": "a", "temperature": -0.1})", "temperature", "found -0.1"},
      {R"({"prompt": "a", "temperature": "hot"})", "temperature", "a number"},
      {R"({"prompt": "a", "temperature": true})", "temperature", "a number"},
      {R"({"prompt": "a", "top_p": 0})", "top_p", "found 0"},
      {R"({"prompt": "a", "top_p": 1.1})", "top_p", "found 1.1"},
      {R"({"prompt": "a", "top_k": -2})", "top_k", "found -2"},
      {R"({"prompt": "a", "min_p": 2})", "min_p", "found 2"},
      {R"({"prompt": "a", "repetition_penalty": 0})", "repetition_penalty", "found 0"},
      {R"({"prompt": "a", "presence_penalty": 3})", "presence_penalty", "found 3"},
      {R"({"prompt": "a", "frequency_penalty": -3})", "frequency_penalty", "found -3"},
      {R"({"prompt": "a", "logprobs": 21})", "logprobs", "found 21"},
      {R"({"prompt": "a", "logprobs": true})", "logprobs", "found true"},
      {R"({"prompt": "a", "logit_bias": [1]})", "logit_bias", "an object"},
      {R"({"prompt": "a", "logit_bias": {"x": 1}})", "logit_bias", "\"x\""},
      {R"({"prompt": "a", "logit_bias": {"4096": 1}})", "logit_bias", "4095"},
      {R"({"prompt": "a", "logit_bias": {"-1": 1}})", "logit_bias", "\"-1\""},
      {R"({"prompt": "a", "logit_bias": {"5": 101}})", "logit_bias", "found 101"},
      {R"({"prompt": "a", "logit_bias": {"5": "x"}})", "logit_bias", "\"x\""},
      {R"({"prompt": "a", "stop": ""})", "stop", "1 to 256 bytes"},
      {R"({"prompt": "a", "stop": ["a", 5]})", "stop", "found 5"},
      {R"({"prompt": "a", "stop": {"a": 1}})", "stop", "a string"},
      {R"({"prompt": "a", "stop_token_ids": [5000]})", "stop_token_ids", "list"},
      {R"({"prompt": "a", "seed": 1.5})", "seed", "an integer"},
      {R"({"prompt": "a", "seed": 99999999999999999999})", "seed", "an integer"},
      {R"({"prompt": "a", "echo": 1})", "echo", "true or false"},
      {R"({"prompt": "a", "stream": "yes"})", "stream", "true or false"},
      {R"({"prompt": "a", "stream_options": {"include_usage": true}})", "stream_options", "stream"},
      {R"({"prompt": "a", "stream": true, "stream_options": {"include": true}})", "stream_options",
       "include_usage"},
      {R"({"prompt": "a", "stream": true, "stream_options": 5})", "stream_options", "an object"},
      {R"({"prompt": "a", "temprature": 1})", "temprature", "Unknown parameter: \"temprature\""},
      {R"({"prompt": "a", "messages": []})", "messages", "Unknown parameter"},
  };
  EXPECT_GE(std::size(cases), 50u);
  for (const Refused& one : cases) expect_refused(one, parse_completion_request);
  const std::string deep = R"({"prompt": )" + std::string(200, '[') + std::string(200, ']') + "}";
  expect_refused({deep.c_str(), "", "nested deeper"}, parse_completion_request);
  std::string wide = R"({"prompt": "a")";
  for (int i = 0; i < 2000; ++i) wide += ", \"k" + std::to_string(i) + "\": 1";
  expect_refused({(wide + "}").c_str(), "", "at most 1024"}, parse_completion_request);
  const std::string many = R"({"prompt": "a", "stop": [)" + [] {
    std::string list = "\"a\"";
    for (int i = 0; i < 64; ++i) list += ", \"a\"";
    return list;
  }() + "]}";
  expect_refused({many.c_str(), "stop", "up to 64"}, parse_completion_request);
}

TEST(ChatRequest, RefusesByName) {
  const Refused cases[] = {
      {"{}", "messages", "at least one message"},
      {R"({"messages": []})", "messages", "at least one message"},
      {R"({"messages": "hi"})", "messages", "a list"},
      {R"({"messages": ["hi"]})", "messages[0]", "role"},
      {R"({"messages": [{"content": "a"}]})", "messages[0].role", "found null"},
      {R"({"messages": [{"role": "king", "content": "a"}]})", "messages[0].role", "\"king\""},
      {R"({"messages": [{"role": "tool", "content": "a"}]})", "messages", "unknown role tool"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content", "found null"},
      {R"({"messages": [{"role": "user", "content": 5}]})", "messages[0].content", "found 5"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "messages[0].content", "image_url"},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b",
           "tool_calls": [{"id": "1"}]}]})",
       "messages[1].tool_calls", "\"function\""},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b",
           "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]})",
       "messages[1].tool_calls", "JSON object"},
      {R"({"messages": [{"role": "user", "content": "a", "weight": 0}]})", "messages[0].weight",
       "not supported"},
      {R"({"messages": [{"role": "user", "content": "a"}], "prompt": "a"})", "prompt", "Unknown"},
      {R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 0})", "max_tokens",
       "found 0"},
      {R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1,
           "max_completion_tokens": 2})",
       "max_tokens", "one of them"},
      {R"({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2})", "top_logprobs",
       "logprobs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "logprobs": 2})", "logprobs", "true"},
      {R"({"messages": [{"role": "user", "content": "a"}], "echo": true})", "echo", "Unknown"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]})",
       "tools", "template does not write"},
      {R"({"messages": [{"role": "user", "content": "a"}], "documents": [{"text": "b"}]})",
       "documents", "template does not write"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}],
           "tool_choice": "required"})",
       "tool_choice", "not supported"},
      {R"({"messages": [{"role": "user", "content": "a"}], "chat_template": "{{ 1 }}"})",
       "chat_template", "not supported"},
      {R"({"messages": [{"role": "user", "content": "a"}],
           "chat_template_kwargs": {"enable_thinking": true}})",
       "chat_template_kwargs", "enable_thinking"},
      {R"({"messages": [{"role": "user", "content": "a"}],
           "chat_template_kwargs": {"messages": []}})",
       "chat_template_kwargs", "beside messages"},
      {R"({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": true,
           "continue_final_message": true})",
       "continue_final_message", "one of them"},
      {R"({"messages": [{"role": "user", "content": "a"}], "min_tokens": 3})", "min_tokens",
       "not supported"},
      {R"({"messages": [{"role": "user", "content": "a"}],
           "response_format": {"type": "json_object"}})",
       "response_format", "not supported"},
      {R"({"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "high"})",
       "reasoning_effort", "template looks at"},
  };
  for (const Refused& one : cases) expect_refused(one, parse_chat_request);
  ServedModel without = demo_model();
  without.chat_template.reset();
  without.no_template = "line 3: what?";
  try {
    parse_chat_request(R"({"messages": [{"role": "user", "content": "a"}]})", without);
    ADD_FAILURE() << "not refused";
  } catch (const ApiError& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 3: what?"));
  }
}

/// The demo model with another chat template.
ServedModel with_template(const std::string& source) {
  ServedModel model = demo_model();
  model.chat_template =
      text::ChatTemplate::with_source(FARSKIP_SOURCE_DIR "/data/demo", source, "template");
  return model;
}

TEST(ChatRequest, GivesTheTemplateAllThatItLooksAt) {
  const ServedModel model = with_template(
      "{{ tools | tojson if tools }}|{{ documents | tojson if documents }}|{{ reasoning_effort }}"
      "{{ thinking }}|{% for m in messages %}[{{ m.role }} {{ m.content }}"
      "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments.x }}"
      "{% endfor %}{{ m.tool_call_id }}]{% endfor %}{{ '>' if add_generation_prompt }}");
  const std::string user = R"("messages": [{"role": "user", "content": "a"})";
  const std::pair<std::string, std::string> cases[] = {
      {user + "]", "|||[user a]>"},
      {user + R"(], "add_generation_prompt": false)", "|||[user a]"},
      {user + R"(, {"role": "assistant", "content": "b"}], "continue_final_message": true)",
       "|||[user a][assistant b"},
      {user + R"(], "tools": [{"f": 1}])", R"([{"f": 1}]|||[user a]>)"},
      {user + R"(], "tools": [{"g": {"z": 2, "a": 3}, "f": 1}], "tool_choice": "auto")",
       R"([{"g": {"z": 2, "a": 3}, "f": 1}]|||[user a]>)"},  // keys in their order
      // Nobody is to call one: the model does not hear of it.
      {user + R"(], "tools": [{"f": 1}], "tool_choice": "none")", "|||[user a]>"},
      {user + R"(], "documents": [{"d": 2}], "reasoning_effort": "low",
                 "chat_template_kwargs": {"thinking": true})",
       R"(|[{"d": 2}]|lowTrue|[user a]>)"},
      {user + R"(, {"role": "assistant", "content": null, "tool_calls":
                   [{"id": "1", "function": {"name": "f", "arguments": "{\"x\": 3}"}}]},
                 {"role": "tool", "tool_call_id": "1", "content": "b"}])",
       "|||[user a][assistant Nonef 3][tool b1]>"},
      {R"("messages": [{"role": "developer", "content": "d"}])", "|||[system d]>"},
      {R"("messages": [{"role": "function", "name": "f", "content": "b"}])", "|||[function b]>"},
  };
  for (const auto& [body, expected] : cases)
    EXPECT_EQ(parse_chat_request("{" + body + "}", model).prompts[0].text, expected) << body;
  const ServedModel developer = with_template(
      "{% for m in messages if m.role == 'developer' %}D {{ m.content }}{% endfor %}{{ x }}>");
  EXPECT_EQ(
      parse_chat_request(R"({"messages": [{"role": "developer", "content": "d"}]})", developer)
          .prompts[0]
          .text,
      "D d>");
  // Templates of before calls were objects.
  const ServedModel old = with_template(
      "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'C ' + c.function.arguments }}"
      "{% endfor %}{% endfor %}");
  const std::string call = R"({"messages": [{"role": "assistant", "content": "b", "tool_calls":
                              [{"function": {"name": "f", "arguments": "{ \"x\": 3}"}}]}]})";
  EXPECT_EQ(parse_chat_request(call, old).prompts[0].text, R"(C { "x": 3})");
  EXPECT_THROW(parse_chat_request(call, demo_model()), ApiError);  // which would drop it
  // A template that passes a role over says nothing of it.
  try {
    parse_chat_request(R"({"messages": [{"role": "developer", "content": "d"},
                                        {"role": "tool", "content": "t"}]})",
                       developer);
    ADD_FAILURE() << "not refused";
  } catch (const ApiError& error) {
    EXPECT_THAT(error.what(), HasSubstr("messages[1].role"));
  }
}

TEST(Requests, GetWhatTheModelRecommends) {
  ServedModel model = demo_model();
  model.defaults = {.temperature = 0.6,
                    .top_p = 0.95,
                    .top_k = 20,
                    .min_p = 0.05,
                    .repetition_penalty = 1.05,
                    .max_new_tokens = 100,
                    .max_length = 50};
  const auto of = [&](const std::string& more, bool chat) {
    return chat ? parse_chat_request(
                      R"({"messages": [{"role": "user", "content": "a"}])" + more + "}", model)
                : parse_completion_request(R"({"prompt": "a")" + more + "}", model);
  };
  for (const bool chat : {false, true}) {
    const auto request = of("", chat);
    EXPECT_EQ(request.sampling.temperature, 0.6);
    EXPECT_EQ(request.sampling.top_p, 0.95);
    EXPECT_EQ(request.sampling.top_k, 20);
    EXPECT_EQ(request.sampling.min_p, 0.05);
    EXPECT_EQ(request.sampling.repetition_penalty, 1.05);
    const auto own = of(R"(, "temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0,
                           "repetition_penalty": 1, "max_tokens": 70)",
                        chat);
    EXPECT_EQ(own.sampling.temperature, 0);
    EXPECT_EQ(own.sampling.top_p, 1);
    EXPECT_EQ(own.sampling.top_k, 0);
    EXPECT_EQ(own.sampling.min_p, 0);
    EXPECT_EQ(own.sampling.repetition_penalty, 1);
    EXPECT_EQ(own.prompts[0].max_tokens, 70);
    EXPECT_EQ(of(R"(, "max_tokens": 300)", chat).prompts[0].max_tokens, 100);
    const auto length = static_cast<int64_t>(request.prompts[0].tokens.size());
    EXPECT_EQ(request.prompts[0].max_tokens, chat ? 50 - length : 16);
  }
  model.defaults = {.max_length = 1};  // shorter than the prompt: it says nothing
  EXPECT_EQ(of("", true).prompts[0].max_tokens,
            4096 - int64_t(of("", true).prompts[0].tokens.size()));
}

}  // namespace
}  // namespace farskip::serve
