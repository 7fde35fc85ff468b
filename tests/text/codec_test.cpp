// Training data through real tokenizers and chat templates.
#include "text/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "text/chat_reader.h"
#include "text/support.h"
#include "text/tables.h"
#include "util/error.h"

namespace farskip::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kPlain =
    "^{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
// As Qwen3's: earlier thoughts are dropped; the generation prompt may close them.
constexpr const char* kForgetful =
    "{% for t in tools or [] %}({{ t.name }}){% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}!{% endif %}</>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif "
    "%}";
// As DeepSeek-R1's: the generation prompt opens thoughts, which messages never have.
constexpr const char* kThoughtless =
    "{% for m in messages %}{% if m.role == 'user' %}<U>{{ m.content }}{% else %}"
    "<A>{{ m.content.split('</think>')[-1] }}<E>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<A><think>\n{% endif %}";
constexpr const char* kMarked =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}</>{% endgeneration %}{{ '\\n' }}{% else %}{{ m.content }}</>{% endif %}{% "
    "endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

/// Passages, one after "|", with what is learnt in brackets.
std::string shown(const char* source, const char* row) {
  const ModelFolder folder("reader");
  const auto chat = ChatTemplate::with_source(folder.path(), source, "template");
  const ChatReader reader([&](const Conversation& talk) { return chat.render(talk); },
                          TemplateNames(source), chat.marks_generation());
  std::string text;
  try {
    const auto read = read_row(io::Json::parse(row), {{}, TemplateNames(source)});
    for (Passage passage : reader.read(std::get<ChatRow>(read))) {
      for (auto range = passage.learnt.rbegin(); range != passage.learnt.rend(); ++range) {
        passage.text.insert(range->second, "]");
        passage.text.insert(range->first, "[");
      }
      text += "|" + passage.text;
    }
  } catch (const InputError& error) {
    return std::string("! ") + error.what();
  }
  return text;
}

TEST(ChatReader, LearnsEveryTurnAsTheModelWouldHaveWrittenIt) {
  const char* talk =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
          {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"},
          {"role": "user", "content": "e"}]})";
  const char* thoughts =
      R"({"messages": [{"role": "user", "content": "a"},
          {"role": "assistant", "content": "b", "reasoning_content": "t"},
          {"role": "user", "content": "c"},
          {"role": "assistant", "content": "d", "reasoning_content": "u"}]})";
  const char* content_thoughts =
      R"({"messages": [{"role": "user", "content": "a"},
          {"role": "assistant", "content": "<think>\nt</think>b"}, {"role": "user", "content": "c"},
          {"role": "assistant", "content": "u</think>d"}]})";
  EXPECT_EQ(shown(kPlain, talk), "|^<user>a</><assistant>[b</>]<user>c</><assistant>[d</>]");
  EXPECT_EQ(shown(kForgetful, thoughts),
            "|<user>a</><assistant>[<think>t</think>b</>]"
            "|<user>a</><assistant>b</><user>c</><assistant>[<think>u</think>d</>]");
  EXPECT_EQ(shown(kForgetful, talk), "|<user>a</><assistant>[b</>]<user>c</><assistant>[d</>]");
  EXPECT_EQ(shown(kForgetful, R"({"messages": [{"role": "user", "content": "a"},
                {"role": "assistant", "content": "<think></think>b"}],
                "chat_template_kwargs": {"enable_thinking": false}})"),
            "|<user>a</><assistant><think></think>[b</>]");
  EXPECT_EQ(shown(kThoughtless, talk), "|<U>a<A>[b<E>]<U>c<A>[d<E>]");
  EXPECT_EQ(shown(kThoughtless, content_thoughts),
            "|<U>a<A><think>\n[t</think>b<E>]|<U>a<A>b<E><U>c<A><think>\n[u</think>d<E>]");
  EXPECT_EQ(shown(kMarked, talk), "|<user>a</><assistant>[b</>]\n<user>c</><assistant>[d</>]\n");
  EXPECT_EQ(shown(kPlain, R"({"messages": [{"role": "assistant", "content": "b"}]})"),
            "|^<assistant>[b</>]");
  EXPECT_EQ(shown(kForgetful, R"({"tools": [{"name": "f"}], "messages": [
                {"role": "user", "content": "a"}, {"role": "assistant", "content": "",
                "tool_calls": [{"function": {"name": "f"}}]}, {"role": "tool", "content": "3"},
                {"role": "assistant", "content": "b", "weight": 0}, {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"}]})"),
            "|(f)<user>a</><assistant>[f!</>]<tool>3</><assistant>b</><user>c</><assistant>[d</>]");
  // Nothing to learn, and lists of text for a template that takes strings.
  EXPECT_EQ(shown(kPlain, R"({"messages": [{"role": "user", "content": "a"}]})"), "");
  EXPECT_EQ(shown(kPlain, R"({"messages": [{"role": "user", "content": [{"type": "text",
                "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant",
                "content": "c"}]})"),
            "|^<user>ab</><assistant>[c</>]");
}

TEST(ChatReader, RefusesWhatTheTemplateLeavesOut) {
  EXPECT_THAT(shown(kThoughtless, R"({"messages": [{"role": "user", "content": "a"}],
                                      "tools": [{"name": "f"}]})"),
              HasSubstr("tools: found them in the row"));
  EXPECT_THAT(shown("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}"
                    "{% endfor %}",
                    R"({"messages": [{"role": "developer", "content": "a"}]})"),
              HasSubstr("\"developer\", which the model's chat template leaves out"));
  EXPECT_THAT(shown("{{ raise_exception('no') }}",
                    R"({"messages": [{"role": "assistant", "content": "a"}]})"),
              HasSubstr("template: no"));
}

/// "ids" of all documents of a row, learnt ones with a "+".
std::vector<std::string> ids_of(const train::TextCodec& codec, const char* row) {
  std::vector<std::string> all;
  for (const train::Sample& sample : codec.row(io::Json::parse(row)))
    for (size_t i = 0; i < sample.ids.size(); ++i)
      all.push_back(std::to_string(sample.ids[i]) + (sample.learn[i] ? "+" : ""));
  return all;
}

TEST(Codec, DocumentsBeginAndEndOnceAsTheTokenizersClassHasIt) {
  // Words of a letter; what is set around a text differs.
  const auto tokenizer = [](const char* post) {
    return std::string(R"({"added_tokens": [
      {"id": 0, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
      {"id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
      "normalizer": null, "decoder": null, "truncation": null, "padding": null,
      "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
      "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"<s>": 0, "</s>": 1, "?": 2, "a": 3, "b": 4, "c": 5}},
      "post_processor": )") +
           post + "}";
  };
  const char* both =
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
          {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
          "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
          "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}})";
  const char* config = R"({"eos_token": "</s>"})";
  const ModelFolder around(
      "around", {{"tokenizer.json", tokenizer(both)}, {"tokenizer_config.json", config}});
  const ModelFolder bare(
      "bare", {{"tokenizer.json", tokenizer("null")}, {"tokenizer_config.json", config}});
  const auto sets = open_codec(around.path(), nullptr), none = open_codec(bare.path(), nullptr);
  EXPECT_THAT(ids_of(sets, R"({"text": "ab"})"), ElementsAre("0+", "3+", "4+", "1+"));
  EXPECT_THAT(ids_of(sets, R"({"text": "ab</s>"})"), ElementsAre("0+", "3+", "4+", "1+"));
  EXPECT_THAT(ids_of(sets, R"({"prompt": "a", "response": "b"})"),
              ElementsAre("0", "3", "4+", "1+"));
  EXPECT_THAT(ids_of(none, R"({"text": "ab"})"), ElementsAre("3+", "4+", "1+"));
  EXPECT_THAT(sets.encode("ab", true), ElementsAre(0, 3, 4));
  EXPECT_THAT(sets.encode("ab", false), ElementsAre(3, 4));
  EXPECT_EQ(sets.end_of_text, 1);
  model::ModelConfig model;
  model.vocabulary = 6;
  model.eos_tokens = {5, 1};
  EXPECT_THAT(ids_of(open_codec(around.path(), &model), R"({"text": "a"})"),
              ElementsAre("0+", "3+", "5+"));
  // A tokenizer may have tokens that its model has not; texts may not.
  model.vocabulary = 4;
  model.eos_tokens = {1};
  const auto fewer = open_codec(around.path(), &model);
  EXPECT_THAT(ids_of(fewer, R"({"text": "a"})"), ElementsAre("0+", "3+", "1+"));
  EXPECT_THROW(ids_of(fewer, R"({"text": "ab"})"), InputError);
  EXPECT_THROW(fewer.encode("b", false), InputError);
  EXPECT_THROW(open_codec(ModelFolder("empty").path(), nullptr), InputError);
}

TEST(Codec, TextThatGoesOnHasNoSpaceOfItsOwn) {
  // As Llama's: "▁" stands for a space, one is set in front of every text.
  const ModelFolder folder("spaces", {{"tokenizer.json", R"({"added_tokens": [], "truncation": null,
    "padding": null, "post_processor": null, "pre_tokenizer": null,
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"},
      "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
      "vocab": {"<unk>": 0, "<0x0A>": 1, "<0x7C>": 7, "▁": 2, "a": 3, "b": 4, "▁a": 5, "▁b": 6},
      "merges": ["▁ a", "▁ b"]}})"}});
  const auto codec = open_codec(folder.path(), nullptr);
  EXPECT_THAT(codec.encode("a b", true), ElementsAre(5, 6));
  EXPECT_THAT(codec.encode("b a", false), ElementsAre(4, 5));
  EXPECT_THAT(codec.encode(" b", false), ElementsAre(6));
  EXPECT_THAT(codec.encode("\nb", false), ElementsAre(1, 4));
}

}  // namespace
}  // namespace farskip::text
