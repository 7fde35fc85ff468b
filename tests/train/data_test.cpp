// Cutting, order, masks and positions of training data, with a tokenizer of one token a byte.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "train/loader.h"
#include "util/error.h"

namespace farskip::train {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kEnd = 0;

class Data : public testing::Test {
 protected:
  Data() { fs::create_directories(folder_); }
  ~Data() override { fs::remove_all(folder_); }

  fs::path file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static TextCodec bytes() {
    TextCodec codec;
    codec.encode = [](std::string_view text, bool) {
      if (text.find('\xff') != std::string_view::npos) throw InputError("found invalid UTF-8");
      return std::vector<int64_t>(text.begin(), text.end());
    };
    codec.end_of_text = kEnd;
    return codec;
  }
  static std::string error_of(const Pieces& pieces, const TextCodec& codec) {
    try {
      for (int64_t i = 0; i < pieces.size(); ++i) read_piece(pieces, i, codec);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

 private:
  fs::path folder_ =
      fs::temp_directory_path() / ("farskip-data-" + std::to_string(::getpid()) + "-" +
                                   testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::string lines(int count, const std::string& head = "line ") {
  std::string text;
  for (int i = 0; i < count; ++i) text += head + std::to_string(i) + "\n";
  return text;
}

TEST_F(Data, PiecesCoverTheFilesAndEndAtLines) {
  const std::string text = lines(500), json = "{\"text\": \"" + std::string(300, 'x') + "\"}\n{}";
  const Pieces pieces({file("a.txt", text), file("b.jsonl", json)}, 64);
  std::string joined[2];
  for (int64_t i = 0; i < pieces.size(); ++i) {
    const std::string part = pieces.read(i);
    EXPECT_TRUE(part.back() == '\n' || pieces[i].end == 302 + 14 || i + 1 == pieces.size());
    joined[pieces[i].file] += part;
  }
  EXPECT_EQ(joined[0], text);
  EXPECT_EQ(joined[1], json);
  EXPECT_GT(pieces.size(), 20);
}

TEST_F(Data, OnlyResponsesAndEndsAreLearnt) {
  TextCodec codec = bytes();
  codec.chat = [](const io::Json& messages) {
    std::vector<Turn> turns;
    for (const auto& m : messages)
      turns.push_back({m["content"].get<std::string>(), m["role"] == "assistant"});
    return turns;
  };
  const Pieces pieces({file("d.jsonl",
                            "{\"prompt\": \"ab\", \"response\": \"c\"}\n\n"
                            "{\"text\": \"de\"}\n"
                            "{\"messages\": [{\"role\": \"user\", \"content\": \"f\"}, "
                            "{\"role\": \"assistant\", \"content\": \"gh\"}]}\n")});
  const Sample sample = read_piece(pieces, 0, codec);
  EXPECT_THAT(sample.ids, ElementsAre('a', 'b', 'c', kEnd, 'd', 'e', kEnd, 'f', 'g', 'h'));
  EXPECT_THAT(sample.learn,
              ElementsAre(false, false, true, true, true, true, true, false, true, true));
}

TEST_F(Data, TextPiecesDoNotLearnWhatTheyWereCutFrom) {
  const Pieces pieces({file("a.txt", "one\ntwo\n"), file("b.txt", "x")}, 2);
  ASSERT_EQ(pieces.size(), 3);
  const Sample second = read_piece(pieces, 1, bytes());
  EXPECT_THAT(second.ids, ElementsAre('t', 'w', 'o', '\n', kEnd));
  EXPECT_THAT(second.learn, ElementsAre(false, true, true, true, true));
  EXPECT_THAT(read_piece(pieces, 0, bytes()).learn, ElementsAre(true, true, true, true));
}

TEST_F(Data, ErrorsNameFileAndLine) {
  const std::string good = "{\"text\": \"a\"}\n";
  const std::vector<std::pair<std::string, std::string>> table = {
      {good + "{\"text\": \n", "bad.jsonl:2: "},
      {good + good + "{\"txt\": \"a\", \"id\": 1}\n", "bad.jsonl:3: found the keys \"txt, id\""},
      {good + "\n{\"prompt\": \"a\"}\n", "bad.jsonl:3: JSON: response: "},
      {"{\"text\": 3}\n", "bad.jsonl:1: JSON: text: "},
      {"[1]\n", "bad.jsonl:1: "},
      {"{\"messages\": []}\n", "bad.jsonl:1: messages: found a conversation"},
      {good + "{\"text\": \"\xff\"}", "bad.jsonl:2: "}};
  for (const auto& [text, expected] : table) {
    const std::string error = error_of(Pieces({file("bad.jsonl", text)}), bytes());
    EXPECT_THAT(error, HasSubstr(expected)) << text;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  EXPECT_THAT(error_of(Pieces({file("bad.txt", "a\nb\nc\xff\n")}), bytes()),
              HasSubstr("bad.txt:3: found invalid UTF-8"));
  EXPECT_THROW(Pieces({"/nowhere.txt"}), InputError);
  EXPECT_THROW(Pieces({file("empty.txt", "")}), InputError);
  EXPECT_THROW(Pieces({file("a.txt.gz", "x")}), InputError);
}

TEST_F(Data, RowsFollowTheirStreamAndAnEpochSeesEveryPieceOnce) {
  const Pieces pieces({file("a.txt", lines(300))}, 40);
  const TextCodec codec = bytes();
  Loader loader(pieces, codec, 3, 16, 7);
  std::vector<int64_t> last(3, -1);
  std::map<int64_t, int> seen;
  int64_t tokens = 0;
  while (loader.epoch() == 1) {
    const Rows rows = loader.next();
    for (int64_t r = 0; r < 3; ++r) {
      if (last[r] >= 0) {
        EXPECT_EQ(rows.tokens[r][0].item<int64_t>(), last[r]);
      }
      last[r] = rows.targets[r][15].item<int64_t>();
    }
    EXPECT_TRUE(rows.tokens.narrow(1, 1, 15).equal(rows.targets.narrow(1, 0, 15)));
    tokens += rows.tokens.numel();
  }
  EXPECT_NEAR(tokens, pieces[pieces.size() - 1].end, 200);

  Loader same(pieces, codec, 3, 16, 7), other(pieces, codec, 3, 16, 8);
  Loader again(pieces, codec, 3, 16, 7);
  EXPECT_TRUE(same.next().tokens.equal(again.next().tokens));
  EXPECT_FALSE(again.next().tokens.equal(other.next().tokens));
}

TEST_F(Data, ARestoredPositionGoesOnWithTheSameBatches) {
  const std::string json = "{\"text\": \"word\"}\n\n{\"text\": \"\"}\n";
  const Pieces pieces({file("a.txt", lines(100)), file("b.jsonl", json)}, 40);
  const TextCodec codec = bytes();
  for (const int64_t length : {5, 100}) {  // rows shorter and longer than a piece
    Loader loader(pieces, codec, 2, length, 3);
    for (int i = 0; i < 30; ++i) loader.next();
    const auto state = nlohmann::json::parse(loader.state().dump());
    Loader restored(pieces, codec, 2, length, 3);
    restored.restore(state);
    for (int i = 0; i < 30; ++i) {
      const Rows expected = loader.next(), found = restored.next();
      ASSERT_TRUE(found.tokens.equal(expected.tokens));
      ASSERT_TRUE(found.learn.equal(expected.learn));
    }
    Loader wrong(pieces, codec, 2, length, 4);
    EXPECT_THROW(wrong.restore(state), InputError);
  }
}

TEST_F(Data, ValidationRowsAreTheBeginningInOrder) {
  const Pieces pieces({file("a.txt", "abcdefghij")}, 4);
  const Rows rows = first_rows(pieces, bytes(), 3, 7);
  EXPECT_TRUE(rows.tokens.equal(at::tensor({97, 98, 99, 100, 101, 102}, at::kLong).view({2, 3})));
  EXPECT_TRUE(rows.learn.all().item<bool>());
  EXPECT_EQ(rows.selected().numel(), 6);
  EXPECT_EQ(first_rows(pieces, bytes(), 40, 40).count(), 1);  // shorter than a row: repeated
}

}  // namespace
}  // namespace farskip::train
