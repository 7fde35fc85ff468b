// Cutting, order, masks and positions of training data, with a tokenizer of one token a byte.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

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
  /// A token a byte; {"context", "answer"} is a row, of which the answer is learnt.
  static TextCodec bytes() {
    TextCodec codec;
    codec.encode = [](std::string_view text, bool) {
      if (text.find('\xff') != std::string_view::npos) throw InputError("found invalid UTF-8");
      return std::vector<int64_t>(text.begin(), text.end());
    };
    codec.end_of_text = kEnd;
    codec.row = [encode = codec.encode](const io::Json& row) -> std::vector<Sample> {
      const io::Fields fields(row, "row");
      if (fields.string("answer").empty()) return {};
      Sample sample;
      sample.add(encode(fields.optional_string("context").value_or(""), false), false);
      sample.add(encode(fields.string("answer"), false), true);
      return {sample};
    };
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

/// As `gzip` packs it.
std::string zipped(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string text_of(const Pieces& pieces, const TextCodec& codec) {
  std::string text;
  for (int64_t i = 0; i < pieces.size(); ++i)
    read_documents(pieces, i, codec, [&](const Sample& document, int64_t) {
      text += '|';
      for (size_t t = 0; t < document.ids.size(); ++t)
        text += document.ids[t] == kEnd ? '.' : static_cast<char>(document.ids[t]);
    });
  return text;
}

TEST_F(Data, RowsAreDocumentsOfWhichThePartsThatCountAreLearnt) {
  const Pieces pieces({file("d.jsonl",
                            "{\"context\": \"ab\", \"answer\": \"c\"}\r\n\n"
                            "{\"answer\": \"\"}\n{\"answer\": \"de\"}\n")});
  const Sample sample = read_piece(pieces, 0, bytes());
  EXPECT_THAT(sample.ids, ElementsAre('a', 'b', 'c', 'd', 'e'));
  EXPECT_THAT(sample.learn, ElementsAre(false, false, true, true, true));
  EXPECT_EQ(sample.learnt(), 3);
  EXPECT_EQ(text_of(pieces, bytes()), "|abc||de");
}

TEST_F(Data, FilesAreWhatTheirNamesAndFirstBytesSay) {
  const std::string rows = "{\"answer\": \"a\"}\n{\"answer\": \"b\"}\n";
  const std::string array = "\n[ {\"answer\":\n\"a\"},\r\n{\"answer\": \"],[\\\"b\"} ]\n";
  const std::string bom = "\xEF\xBB\xBF";
  struct Case {
    std::string name, bytes, text;
  };
  const std::vector<Case> table = {{"a.jsonl", rows, "|a|b"},
                                   {"a.JSONL", rows, "|a|b"},
                                   {"a.ndjson", bom + rows, "|a|b"},
                                   {"a.json", rows, "|a|b"},
                                   {"a.json", array, "|a|],[\"b"},
                                   {"a.Json", bom + array, "|a|],[\"b"},
                                   {"a.json", "{\n  \"answer\": \"a\"\n}\n", "|a"},
                                   {"a.txt", "one\r\ntwo\rthree", "|one\ntwo\nthree."},
                                   {"a.txt", bom + "x", "|x."},
                                   {"a.txt", rows, "|{\"answer\": \"a\"}\n|{\"answer\": \"b\"}\n."},
                                   {"a.md", "{x}", "|{x}."},
                                   {"a.jsonl.gz", zipped(rows), "|a|b"},
                                   {"a.json.GZ", zipped(array) + zipped("\n"), "|a|],[\"b"},
                                   {"a.txt", zipped("plain"), "|plain."},
                                   {"a.parquet", "PAR1", "|table"},
                                   {"a.txt", "ARROW1 ", "|table"}};
  const TableReader tables = [](const fs::path&, const Write& write) {
    write("{\"answer\": \"table\"}\n");
  };
  for (const Case& c : table)
    EXPECT_EQ(text_of(Pieces({file(c.name, c.bytes)}, 8, tables), bytes()), c.text)
        << c.name << ": " << c.bytes;

  const std::vector<Case> refused = {
      {"a.jsonl.gz", rows, "found no gzip data in it"},
      {"a.gz", zipped(lines(9)).substr(0, 20), "gzip data that end too early"},
      {"a.gz", "\x1F\x8B no", "found damaged gzip data"},
      {"a.json", "[]", "found an empty list"},
      {"a.json", "[{}, ]", "row 2: found \"]\""},
      {"a.json", "[{} {}]", "row 1: "},
      {"a.json", "[{}", "row 1: found the end of the file"},
      {"a.json", "[{}] []", "row 2: found \"[\" after the list"},
      {"a.json", "[{\"answer\": \"a\"}, {\"answer\": \"a\nb\"}]",
       "a.json: row 2: JSON: found invalid"},
      {"a.json", "[{\"answer\": \"a\"}, 1]", "a.json: row 2: JSON: found 1, expected an object"},
      {"a.data", rows, "found JSON objects in a file of no known kind"},
      {"a.csv", "a,b", "found a .csv file"},
      {"a.txt", "PK\x03\x04", "found a zip archive"},
      {"a.jsonl", "\x28\xB5\x2F\xFD", "found Zstandard data"},
      {"a.txt", "\xFF\xFEx", "found UTF-16 text"},
      {"a.txt", std::string("abc\0def", 7), "found binary data (a zero byte)"},
      {"a.txt", bom, "nothing but a byte order mark"},
      {"a.txt", "", "found an empty file"},
      {"a.arrow", "ARROW1", "found a Parquet or Arrow file, expected text or JSON lines"}};
  for (const Case& c : refused) {
    std::string error;
    try {
      error = error_of(Pieces({file(c.name, c.bytes)}), bytes());
    } catch (const InputError& found) {
      error = found.what();
    }
    EXPECT_THAT(error, HasSubstr(c.text)) << c.name << ": " << c.bytes;
  }
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
  const std::string good = "{\"answer\": \"a\"}\n";
  const std::vector<std::pair<std::string, std::string>> table = {
      {good + "{\"answer\": \n", "bad.jsonl:2: "},
      {good + "\n{\"other\": \"a\"}\n", "bad.jsonl:3: row: answer: "},
      {"[1]\n", "bad.jsonl:1: JSON: found [1], expected an object"},
      {good + "{\"answer\": \"\xff\"}", "bad.jsonl:2: "}};
  for (const auto& [text, expected] : table) {
    const std::string error = error_of(Pieces({file("bad.jsonl", text)}), bytes());
    EXPECT_THAT(error, HasSubstr(expected)) << text;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  EXPECT_THAT(error_of(Pieces({file("bad.txt", "a\r\nb\nc\xff\n")}), bytes()),
              HasSubstr("bad.txt:3: found invalid UTF-8"));
  const std::string late = std::string(70000, 'a') + "\n";
  EXPECT_THAT(error_of(Pieces({file("bad.txt", late + std::string("b\0", 2))}), bytes()),
              HasSubstr("bad.txt:2: text: found a zero byte"));
  EXPECT_THROW(Pieces({"/nowhere.txt"}), InputError);
  EXPECT_THROW(Pieces(std::vector<fs::path>{}), InputError);
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
  const std::string json = "{\"answer\": \"word\"}\n\n{\"answer\": \"\"}\n";
  const Pieces pieces({file("a.txt", lines(100)), file("b.jsonl.gz", zipped(json))}, 40);
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
  const Rows rows = first_rows(pieces, bytes(), 3, 6);
  EXPECT_TRUE(rows.tokens.equal(at::tensor({97, 98, 99, 100, 101, 102}, at::kLong).view({2, 3})));
  EXPECT_TRUE(rows.learn.all().item<bool>());
  EXPECT_EQ(rows.selected().numel(), 6);
  EXPECT_EQ(rows.padding, 0);

  // All of it, in rows of at most so many: 10 letters and the end make 10 positions.
  for (const auto& [length, most, sizes, padding] : {std::tuple{40, 40, std::pair{1, 10}, 0},
                                                     {64, 4, {1, 4}, 0},
                                                     {4, 100, {3, 4}, 2},
                                                     {4, 7, {2, 4}, 1},
                                                     {10, 10, {1, 10}, 0}}) {
    const Rows found = first_rows(pieces, bytes(), length, most);
    EXPECT_EQ(found.tokens.sizes(), (std::vector<int64_t>{sizes.first, sizes.second}));
    EXPECT_EQ(found.padding, padding);
    EXPECT_EQ(found.learn.sum().item<int64_t>(), std::min(most, 10));
    EXPECT_EQ(found.slice(0, sizes.first).padding, padding);
  }
  EXPECT_EQ(first_rows(pieces, bytes(), 4, 100).slice(0, 2).padding, 0);
  TextCodec endless = bytes();
  endless.end_of_text.reset();
  EXPECT_THROW(first_rows(Pieces({file("b.txt", "x")}), endless, 4, 100), InputError);
}

}  // namespace
}  // namespace farskip::train
