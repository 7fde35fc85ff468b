#include "io/json_file.h"

#include <gtest/gtest.h>

#include "model/config.h"
#include "util/error.h"

namespace farskip::io {
namespace {

TEST(JsonFile, FieldsReadEveryTypeAndTreatNullAsAbsent) {
  const Fields fields(parse_json(R"({"i": 3, "f": 2.0, "x": 0.5, "b": true, "s": "t", "n": null,
                     "is": [1, 2], "ss": ["a"], "o": {"k": 1}})",
                                 "here"),
                      "here");
  EXPECT_EQ(fields.integer("i"), 3);
  EXPECT_EQ(fields.integer("f", 2, 2), 2);
  EXPECT_EQ(fields.number("x", 0, 1), 0.5);
  EXPECT_EQ(fields.number("i"), 3.0);
  EXPECT_TRUE(fields.boolean("b"));
  EXPECT_EQ(fields.string("s"), "t");
  EXPECT_EQ(fields.optional_string("n"), std::nullopt);
  EXPECT_EQ(fields.optional_integer("absent"), std::nullopt);
  EXPECT_EQ(fields.integers("is"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(fields.strings("ss"), std::vector<std::string>{"a"});
  EXPECT_EQ(fields.object("o").integer("k"), 1);
  EXPECT_FALSE(fields.optional_object("n"));
}

TEST(JsonFile, ErrorsNameTheFieldTheFoundAndTheExpected) {
  const Fields fields(parse_json(R"({"i": 3, "s": "3", "x": 1.5, "o": {"k": []},
                                     "u": 18446744073709551615})",
                                 "here"),
                      "here");
  const auto error = [](auto read) -> std::string {
    try {
      read();
    } catch (const InputError& caught) {
      return caught.what();
    }
    return "no error";
  };
  EXPECT_EQ(error([&] { fields.integer("i", 4, 9); }),
            "here: i: found 3, expected an integer from 4 to 9");
  EXPECT_EQ(error([&] { fields.integer("s", 1); }),
            "here: s: found \"3\", expected an integer of at least 1");
  EXPECT_EQ(error([&] { fields.integer("x"); }), "here: x: found 1.5, expected an integer");
  EXPECT_EQ(error([&] { fields.integer("u"); }),
            "here: u: found 18446744073709551615, expected an integer");
  EXPECT_EQ(error([&] { fields.boolean("absent"); }),
            "here: absent: found no such field, expected true or false");
  EXPECT_EQ(error([&] { fields.object("o").number("k"); }),
            "here: o: k: found [], expected a number");
  EXPECT_EQ(error([&] { Fields(Json::array(), "list"); }), "list: found [], expected an object");
}

TEST(JsonFile, WritesWhatItReads) {
  const auto path = std::filesystem::temp_directory_path() / "farskip_json_file_test.json";
  const Json json = parse_json(R"({"z": 1, "a": [true, null, 0.1], "t": "\u00e9"})", "text");
  write_json_file(path, json);
  EXPECT_EQ(read_json_file(path).dump(), json.dump());  // the order of keys stays
  std::filesystem::remove(path);
}

TEST(JsonFile, ConfigurationsOfAllGoldenModelsAreRead) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FARSKIP_TEST_DATA "/models")) {
    const auto file = entry.path() / "config.json";
    EXPECT_NO_THROW(model::read_config(file)) << file;
    ++count;
  }
  EXPECT_GE(count, 9);
}

}  // namespace
}  // namespace farskip::io
