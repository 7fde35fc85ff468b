// What stands between a conversation and its text. That the text is transformers' own is held by
// scripts/oracle/check_text.py; these are goldens of it, and files.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "io/json_file.h"
#include "text/support.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using io::Json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

const Json kTalk = {{{"role", "user"}, {"content", "Hi"}},
                    {{"role", "assistant"}, {"content", "Yö"}}};

ChatTemplate from(const std::string& source) {
  static const ModelFolder empty("template");
  return ChatTemplate::with_source(empty.path(), source, "template");
}

/// The message of the InputError; empty if there is none.
std::string error_of(const ChatTemplate& chat, const Conversation& talk = {.messages = kTalk}) {
  try {
    chat.render(talk);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const Json golden = io::read_json_file(FARSKIP_TEST_DATA "/tokenizers/chat_templates.json");
  ASSERT_GT(golden.size(), 80u);
  for (const Json& entry : golden) {
    const auto name = entry["name"].get<std::string>();
    const ModelFolder folder("golden", {{"tokenizer_config.json", entry["tokens"].dump()}});
    const auto chat =
        ChatTemplate::with_source(folder.path(), entry["source"].get<std::string>(), name);
    for (const Json& one : entry["cases"]) {
      Conversation talk{.messages = one["messages"]};
      talk.add_generation_prompt = one["add"].get<bool>();
      if (one.contains("error"))
        EXPECT_THROW(chat.render(talk), InputError) << name << ": " << entry["source"];
      else
        EXPECT_EQ(chat.render(talk).text, one["text"].get<std::string>()) << name;
    }
  }
}

TEST(ChatTemplate, ReadsTheDemoModelsTemplate) {
  const auto chat = ChatTemplate::open(FARSKIP_SOURCE_DIR "/data/demo");
  ASSERT_TRUE(chat);
  Conversation talk{.messages = kTalk};
  talk.add_generation_prompt = true;
  EXPECT_EQ(chat->render(talk).text, "<|user|>\nHi\n<|assistant|>\nYö<|endoftext|><|assistant|>\n");
  EXPECT_THAT(error_of(*chat, {.messages = {{{"role", "judge"}, {"content", ""}}}}),
              HasSubstr("role"));
  EXPECT_THROW(chat->render({.messages = "Hi"}), InputError);
}

TEST(ChatTemplate, TellsWhatGenerationBlocksWrote) {
  const auto chat = from(
      "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}."
      "{% endgeneration %}{% else %}<é{{ m.content }}>{% endif %}{% endfor %}");
  EXPECT_TRUE(chat.marks_generation());
  EXPECT_FALSE(from("{{ 'generation' }}").marks_generation());
  Json talk = kTalk;
  talk.insert(talk.end(), kTalk.begin(), kTalk.end());
  const Rendered rendered = chat.render({.messages = talk});
  EXPECT_EQ(rendered.text, "<éHi>Yö.<éHi>Yö.");
  EXPECT_THAT(rendered.generated, ElementsAre(Pair(6, 10), Pair(16, 20)));  // bytes
}

TEST(ChatTemplate, GivesTemplatesToolsDocumentsAndVariables) {
  const auto chat = from("{{ tools | tojson }} {{ documents[0].text }} {{ enable_thinking }}");
  Conversation talk{.messages = kTalk,
                    .tools = Json::parse(R"([{"z": "<é>", "a": 1}])"),
                    .documents = {{{"text", "D"}}},
                    .variables = {{"enable_thinking", false}}};
  EXPECT_EQ(chat.render(talk).text, R"([{"z": "<é>", "a": 1}] D False)");
}

TEST(ChatTemplate, LeavesTheLastMessageOpenOnDemand) {
  const auto chat = from("{% for m in messages %}<{{ m.content | trim }}>{% endfor %}");
  Conversation talk{.messages = kTalk};
  talk.continue_final_message = true;
  EXPECT_EQ(chat.render(talk).text, "<Hi><Yö");
  EXPECT_THAT(error_of(from("nothing"), talk), HasSubstr("continue_final_message"));
}

TEST(ChatTemplate, LooksInTheFilesOfAModel) {
  const ModelFolder folder("files");
  const auto open = [&] { return ChatTemplate::open(folder.path()); };
  const auto text = [&](Json tools = {}) {
    return open()->render({.messages = kTalk, .tools = std::move(tools)}).text;
  };
  EXPECT_FALSE(open());
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "</s>"}, "bos_token": null})");
  EXPECT_FALSE(open());
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "</s>"}, "chat_template": [
      {"name": "tool_use", "template": "a"}, {"name": "default", "template": "b{{ eos_token }}"}]})");
  EXPECT_EQ(text(), "b</s>");
  EXPECT_EQ(text(Json::parse("[{}]")), "a");
  folder.write("chat_template.json", R"({"chat_template": "j"})");
  EXPECT_EQ(text(), "j");
  folder.write("chat_template.jinja", "c{{ bos_token }}{{ eos_token }}\n");
  EXPECT_EQ(text(), "c</s>");
  folder.write("additional_chat_templates/tool_use.jinja", "d");
  EXPECT_EQ(text(Json::parse("[{}]")), "d");
  for (const char* damaged : {R"({"chat_template": 1})", R"({"chat_template": [{"name": "x"}]})",
                              R"({"eos_token": 3})", "[]", "{"}) {
    folder.write("tokenizer_config.json", damaged);
    EXPECT_THROW(open(), InputError) << damaged;
  }
}

TEST(ChatTemplate, SaysInOneLineWhatIsWrongWithATemplate) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"a\n{% if %}", "template: line 2: "},
      {"{{ raise_exception('no\\nsuch') }}", "template: no such"},
      {"{{ messages.x.y }}", "template: 'list object' has no attribute 'x'"},
      {"{{ 1 / 0 }}", "template: ZeroDivisionError"},
      {"{{ ''.__class__.__mro__ }}", "template: "},  // the sandbox
      {"{{ messages.append(1) }}", "template: "},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "template: "},
  };
  for (const auto& [source, part] : mistakes) {
    const std::string message = error_of(from(source));
    EXPECT_THAT(message, HasSubstr(part)) << source;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(ChatTemplate, MayBeUsedByManyThreads) {
  const auto chat =
      from("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}");
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (int& count : good)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += chat.render({.messages = kTalk}).generated.size() == 2;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(good, ElementsAre(200, 200, 200, 200));
}

}  // namespace
}  // namespace farskip::text
