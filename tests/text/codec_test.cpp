#include "text/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/support.h"
#include "util/error.h"

namespace farskip::text {
namespace {

constexpr const char* kPlain =
    "^{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
// Earlier answers are rewritten once there are later messages.
constexpr const char* kForgetful =
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' and not loop.last %}-"
    "{% else %}{{ m['content'] }}{% endif %}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

std::string shown(const char* source, const char* messages) {
  std::string text;
  const ModelFolder folder("codec");
  const auto chat = ChatTemplate::with_source(folder.path(), source, "template");
  for (const train::Turn& turn : chat_turns(chat, io::Json::parse(messages)))
    text += (turn.learn ? "[" : "") + turn.text + (turn.learn ? "]" : "");
  return text;
}

TEST(Codec, LearnsTheAssistantsWordsAndTheirEndMarks) {
  const char* talk =
      R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
          {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])";
  EXPECT_EQ(shown(kPlain, talk), "^<user>a</><assistant>[b</>]<user>c</><assistant>[d</>]");
  EXPECT_EQ(shown(kForgetful, talk), "<user>a</><assistant>-</><user>c</><assistant>[d</>]");
  EXPECT_THROW(shown(kPlain, R"([{"role": "user", "content": "a"}])"), InputError);
  EXPECT_THROW(shown(kPlain, "{}"), InputError);
  EXPECT_THROW(shown(kPlain, R"([{"content": "a"}])"), InputError);
}

}  // namespace
}  // namespace farskip::text
