#include "io/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "io/json_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

using ::testing::HasSubstr;

ChatTemplate from(const std::string& source) {
  return ChatTemplate::parse(source, {}, "template");
}

std::string render(const std::string& source) {
  return from(source).render(Json::array(), false);
}

/// The message of the InputError; empty if there is none.
std::string error_of(const std::string& source) {
  try {
    render(source);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const Json golden = read_json_file(FARSKIP_TEST_DATA "/tokenizers/chat_templates.json");
  ASSERT_GT(golden.size(), 80u);
  for (const Json& entry : golden) {
    const auto name = entry["name"].get<std::string>();
    for (const Json& chat : entry["cases"]) {
      const auto given = [&] {
        return ChatTemplate::parse(entry["source"].get<std::string>(),
                                   entry["tokens"].get<std::map<std::string, Json>>(), name)
            .render(chat["messages"], chat["add"].get<bool>());
      };
      if (chat.contains("error"))
        EXPECT_THROW(given(), InputError) << name << ": " << entry["source"];
      else
        EXPECT_EQ(given(), chat["text"].get<std::string>()) << name << ": " << entry["source"];
    }
  }
}

TEST(ChatTemplate, ReadsTheDemoModelsTemplate) {
  const auto chat = ChatTemplate::open(FARSKIP_SOURCE_DIR "/data/demo");
  ASSERT_TRUE(chat);
  const Json messages = {{{"role", "user"}, {"content", "Hi"}},
                         {{"role", "assistant"}, {"content", "Yo"}}};
  EXPECT_EQ(chat->render(messages, true),
            "<|user|>\nHi\n<|assistant|>\nYo<|endoftext|><|assistant|>\n");
  EXPECT_THROW(chat->render({{{"role", "judge"}, {"content", ""}}}, false), InputError);
  EXPECT_THROW(chat->render("Hi", false), InputError);
}

TEST(ChatTemplate, LooksInTheFilesOfAModel) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "chat_template";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(folder / name) << text;
  };
  const auto open = [&] { return ChatTemplate::open(folder); };
  EXPECT_FALSE(open());
  write("tokenizer_config.json", R"({"eos_token": {"content": "</s>"}, "bos_token": null})");
  EXPECT_FALSE(open());
  write("tokenizer_config.json", R"({"eos_token": {"content": "</s>"}, "chat_template": [
      {"name": "tools", "template": "a"}, {"name": "default", "template": "b{{ eos_token }}"}]})");
  EXPECT_EQ(open()->render(Json::array(), false), "b</s>");
  write("chat_template.jinja", "c{{ bos_token }}{{ eos_token }}\n");
  EXPECT_EQ(open()->render(Json::array(), false), "c</s>");
  std::filesystem::remove(folder / "chat_template.jinja");
  for (const char* damaged :
       {R"({"chat_template": 1})", R"({"chat_template": [{"name": "x", "template": ""}]})",
        R"({"chat_template": "{{"})", R"({"eos_token": 3})", "[]", "{"}) {
    write("tokenizer_config.json", damaged);
    EXPECT_THROW(open(), InputError) << damaged;
  }
}

TEST(ChatTemplate, NamesWhatItDoesNotSupport) {
  const std::pair<const char*, const char*> refused[] = {
      {"a\n{% macro f(x) %}{% endmacro %}", "line 2: found \"macro\""},
      {"{% include 'x' %}", "include"},
      {"{% raw %}{% endraw %}", "raw"},
      {"{% filter upper %}a{% endfilter %}", "filter"},
      {"\n\n{{ 2 ** 3 }}", "line 3: found \"**\""},
      {"{{ [1] | map('upper') }}", "the filter map"},
      {"{{ 1 is divisibleby 1 }}", "the test divisibleby"},
      {"{{ strftime_now('%Y') }}", "the function strftime_now"},
      {"{{ 'a'.title() }}", "the method title"},
      {"{{ 'é'.upper() }}", "upper"},
      {"{{ [1, 2] }}", "a list or dictionary to print"},
      {"{{ (1, 2) }}", "tuples"},
      {"{{ {'a': 1}.items }}", "the method items without a call"},
      {"{{ 'a' | trim('x') }}", "trim with 1 arguments"},
      {"{{ 'abc'.split('b', 1) }}", "split with 2 arguments"},
      {"{{ 9223372036854775807 }}", "a plain number"},
      {"{{ 999999999999999999 * 999999999999999999 }}", "operands that fit"},
      {"{{ '\\777' }}", "escapes"},
      {"{{ range(1000000) }}", "a longer range"},
      {"{{ é }}", "expected an expression"},
      {"\xff", "UTF-8"},
  };
  for (const auto& [source, part] : refused) {
    const std::string message = error_of(source);
    EXPECT_THAT(message, HasSubstr(part)) << source;
    EXPECT_EQ(message.rfind("template: ", 0), 0u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(ChatTemplate, StopsWhatWouldNotEnd) {
  const std::string many(20000, '(');
  std::string chain = "{{ 1", blocks, loops;
  for (int i = 0; i < 5000; ++i) chain += " + 1";
  for (int i = 0; i < 5000; ++i) blocks += "{% if true %}";
  for (int i = 0; i < 4; ++i) loops += "{% for i in range(1000) %}";
  for (int i = 0; i < 4; ++i) loops += "{% endfor %}";
  EXPECT_THAT(error_of("{{ " + many + "1" + std::string(20000, ')') + " }}"),
              HasSubstr("nested too deep"));
  EXPECT_THAT(error_of(chain + " }}"), HasSubstr("too long"));
  EXPECT_THAT(error_of(blocks), HasSubstr("nested too deep"));
  EXPECT_THAT(error_of(loops), HasSubstr("runs too long"));
}

}  // namespace
}  // namespace farskip::io
