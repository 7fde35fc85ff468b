// Rows as data sets have them, to what is learnt of them.
#include "text/training_row.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "util/error.h"

namespace farskip::text {
namespace {

using testing::HasSubstr;

/// The source of a template that takes tools and thoughts.
constexpr const char* kSource =
    "{# weight #} images {{- 'Call functions as you like' -}} {{ tools }} {% if enable_thinking %} "
    "{{ message.reasoning_content }} "
    "{{ message['tool_calls'] }} {{ date_string }} {% if role == \"ipython\" %}";

/// "user: a | assistant: [b]", with what stands beside the messages behind it.
std::string shown(const TrainingRow& row) {
  if (const auto* text = std::get_if<TextRow>(&row)) return "[" + text->text + "]";
  if (const auto* pair = std::get_if<PromptRow>(&row))
    return pair->prompt + "[" + pair->response + "]";
  const auto& [talk, learn] = std::get<ChatRow>(row);
  std::string all;
  for (size_t i = 0; i < talk.messages.size(); ++i) {
    io::Json message = talk.messages[i];
    const io::Json content = message["content"];
    std::string text = content.is_string() ? content.get<std::string>() : content.dump();
    const std::string role = message["role"];
    message.erase("content");
    message.erase("role");
    if (!message.empty()) text += message.dump();
    all += (i ? " | " : "") + role + ": " + (learn[i] ? "[" + text + "]" : text);
  }
  for (const auto& [name, value] : {std::pair{" tools=", talk.tools},
                                    {" documents=", talk.documents},
                                    {" variables=", talk.variables}})
    if (!value.is_null()) all += name + value.dump();
  return all;
}

std::string read(const std::string& json, const std::set<std::string>& ignored = {},
                 const char* source = kSource) {
  try {
    return shown(read_row(io::Json::parse(json),
                          {ignored, *source ? TemplateNames(source) : TemplateNames()}));
  } catch (const InputError& error) {
    return std::string("! ") + error.what();
  }
}

TEST(TrainingRow, ReadsTheShapesOfDataSets) {
  const std::vector<std::pair<const char*, const char*>> table = {
      {R"({"text": "a", "url": "u", "dump": 1, "whatever": [2], "label": 0})", "[a]"},
      {R"({"text": ""})", "[]"},
      {R"({"content": "a", "size": 3})", "[a]"},
      {R"({"prompt": "a", "response": "b", "id": 3})", "a[b]"},
      {R"({"prompt": "a", "completion": "b", "tools": [], "system": ""})", "a[b]"},
      {R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
           {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})",
       "user: a | assistant: b | user: c | assistant: [d]"},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
       "user: a | assistant: [b]"},
      {R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"},
           {"from": "gpt", "value": "b"}]})",
       "system: s | user: a | assistant: [b]"},
      {R"({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call",
           "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
           {"from": "observation", "value": "3"}, {"from": "gpt", "value": "b"}],
           "system": "s", "tools": "[{\"name\": \"f\"}]"})",
       R"(system: s | user: a | assistant: [null{"tool_calls":[{"type":"function","function":)"
       R"({"name":"f","arguments":{"x":1}}}]}] | tool: 3 | assistant: [b] tools=[{"name":"f"}])"},
      {R"({"conversations": [{"role": "user", "content": "a"}, {"role": "model", "content": "b"}]})",
       "user: a | assistant: [b]"},
      {R"({"instruction": "a", "input": "b", "output": "c"})", "user: a\nb | assistant: [c]"},
      {R"({"instruction": "a", "input": "", "output": "c", "system": "s",
           "history": [["d", "e"]]})",
       "system: s | user: d | assistant: [e] | user: a | assistant: [c]"},
      {R"({"instruction": "a", "context": "b", "response": "c", "category": "x"})",
       "user: a\nb | assistant: [c]"},
      {R"({"question": "a", "answer": "b"})", "user: a | assistant: [b]"},
      // What the template reads goes to it.
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"f": 1}],
           "chat_template_kwargs": {"enable_thinking": false}, "date_string": "today"})",
       R"(user: a tools=[{"f":1}] variables={"enable_thinking":false,"date_string":"today"})"},
      {R"({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "t",
           "tool_calls": null, "name": "n"}]})",
       R"(assistant: [a{"reasoning_content":"t","name":"n"}])"},
      {R"({"messages": [{"role": "ipython", "content": "3"}]})", "ipython: 3"},
      {R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]})",
       R"(user: [{"type":"text","text":"a"}])"}};
  for (const auto& [row, expected] : table) EXPECT_EQ(read(row), expected) << row;
}

TEST(TrainingRow, WeightsSayWhatIsLearnt) {
  for (const std::string key :
       {"weight", "train", "training", "trainable", "loss", "loss_mask", "learn"})
    for (const auto& [value, learnt] : {std::pair{"0", false},
                                        {"1", true},
                                        {"false", false},
                                        {"true", true},
                                        {"0.0", false},
                                        {"null", true}}) {
      const std::string row = R"({"messages": [{"role": "user", "content": "a", ")" + key +
                              R"(": 0}, {"role": "assistant", "content": "b", ")" + key +
                              "\": " + value + "}]}";
      EXPECT_EQ(read(row), learnt ? "user: a | assistant: [b]" : "user: a | assistant: b") << row;
    }
}

TEST(TrainingRow, RefusesWhatWouldBeLost) {
  const std::string talk = R"({"messages": [{"role": "user", "content": "a"}])";
  const auto message = [](const std::string& rest) {
    return R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", )" +
           rest + "}]}";
  };
  const std::vector<std::pair<std::string, const char*>> table = {
      {talk + R"(, "images": ["x"]})", "images: found a key that has no use in a row of messages"},
      {talk + R"(, "functions": [1]})", "functions: "},
      {talk + R"(, "parallel_tool_calls": true})", "parallel_tool_calls: "},
      {talk + R"(, "weight": 0.5})", "weight: "},
      {talk + R"(, "prompt": "p"})", "prompt: found a key that has no use"},
      {talk + R"(, "chat_template_kwargs": {"thinking": 1}})", "kwargs: found \"thinking\""},
      {talk + R"(, "chat_template_kwargs": {"tools": []}})", "kwargs: found \"tools\""},
      {talk + R"(, "tools": {"f": 1}})", "tools: found {\"f\":1}, expected a list"},
      {message(R"("weight": 0.5)"), "messages[1]: weight: found 0.5, expected 0 or 1"},
      {message(R"("weight": "0")"), "messages[1]: weight: found \"0\""},
      {message(R"("thinking": "t")"), "messages[1]: found the key \"thinking\""},
      {message(R"("function_call": {"name": "f"})"), "found the key \"function_call\""},
      {R"({"messages": [{"role": "user", "content": "a", "train": true}]})",
       "of a message of user"},
      {R"({"messages": [{"role": "human_being", "content": "a"}]})", "role: found \"human_being\""},
      {R"({"messages": [{"role": "user"}]})", "content: found null, expected a string"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "content: found [{"},
      {R"({"messages": [{"content": "a"}]})", "messages[0]: role: found no such key"},
      {R"({"messages": "a"})", "messages: found \"a\", expected a list"},
      {R"({"messages": []})", "messages: found []"},
      {R"({"conversations": [{"from": "function_call", "value": "f of x"}]})",
       "function_call: found"},
      {talk + R"(, "system": "s", "extra": 1})", "extra: "},
      {R"({"prompt": "a", "response": "b", "context": "c"})", "context: "},
      {R"({"prompt": "a", "response": "b", "history": [["c", "d"]]})", "history: "},
      {R"({"prompt": "a", "response": "b", "system": "s"})", "system: "},
      {R"({"prompt": "a"})", "prompt: found it without a response"},
      {R"({"prompt": {"text": "a"}, "response": "b"})", "prompt: found {"},
      {R"({"prompt": "a", "chosen": "b", "rejected": "c"})", "chosen: found a row of preferences"},
      {R"({"prompt": "a", "completion": "b", "label": true})", "label: "},
      {R"({"instruction": "a", "output": "b", "text": "c"})", "text: "},
      {R"({"instruction": "a", "instances": [{}]})", "found the keys \"instruction, instances\""},
      {R"({"text": 3})", "text: found 3, expected a string"},
      {R"({"text": "a", "images": ["x"]})", "images: "},
      {R"({"text": "a", "loss_mask": [1]})", "loss_mask: "},
      {R"({"role": "user", "content": "a"})", "role: "},
      {R"({"input_ids": [1]})", "found the keys \"input_ids\""},
      {"{}", "found the keys \"\""}};
  for (const auto& [row, expected] : table)
    EXPECT_THAT(read(row), testing::AllOf(testing::StartsWith("! "), HasSubstr(expected))) << row;
  EXPECT_THAT(read(talk + "}", {}, ""), HasSubstr("expected a model with a chat template"));
  EXPECT_EQ(read(talk + R"(, "images": ["x"]})", {"images"}), "user: a");
  EXPECT_EQ(read(R"({"messages": 1, "text": "a"})", {"messages"}), "[a]");
}

}  // namespace
}  // namespace farskip::text
