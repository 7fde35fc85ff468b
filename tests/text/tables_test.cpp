// Parquet and Arrow files, as pyarrow writes them, as rows.
#include "text/tables.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "io/json_file.h"
#include "text/support.h"
#include "util/error.h"

namespace farskip::text {
namespace {

constexpr const char* kScript = R"PY(
import sys, datetime, pyarrow as pa, pyarrow.parquet, pyarrow.feather
table = pa.table({
    "messages": [[{"role": "user", "content": "ä\n", "tool_calls": None},
                  {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}],
                 [{"role": "user", "content": "b", "tool_calls": None}]],
    "text": [None, "t"], "score": [1.5, float("nan")], "raw": [b"x", b"\xff"],
    "day": [datetime.date(2025, 1, 2), None]})
folder = sys.argv[1]
pa.parquet.write_table(table, folder + "/a.parquet", row_group_size=1)
pa.feather.write_feather(table, folder + "/a.feather")
with pa.ipc.new_file(folder + "/file.arrow", table.schema) as out: out.write_table(table)
with pa.ipc.new_stream(folder + "/stream.arrow", table.schema) as out: out.write_table(table)
open(folder + "/cut.parquet", "wb").write(open(folder + "/a.parquet", "rb").read()[:200])
open(folder + "/not.arrow", "wb").write(b"nothing of the kind")
)PY";

TEST(Tables, AreReadAsRowsWithoutTheirNulls) {
  const ModelFolder folder("tables", {{"write.py", kScript}});
  const std::string path = folder.path().string();
  ASSERT_EQ(std::system((FARSKIP_PYTHON " " + path + "/write.py " + path).c_str()), 0);
  const std::string expected =
      R"({"messages": [{"role": "user", "content": "ä\n"}, {"role": "assistant", "tool_calls": )"
      R"([{"name": "f"}]}], "score": 1.5, "raw": "x", "day": "2025-01-02"})"
      "\n"
      R"({"messages": [{"role": "user", "content": "b"}], "text": "t", "score": null, )"
      R"("raw": "<1 bytes>"})"
      "\n";
  for (const char* name : {"a.parquet", "a.feather", "file.arrow", "stream.arrow"}) {
    std::string lines;
    read_table(folder.path() / name, [&](std::string_view part) { lines += part; });
    EXPECT_EQ(lines, expected) << name;
    const train::Pieces pieces = open_pieces({folder.path() / name});
    EXPECT_TRUE(pieces.is_lines(0));
    EXPECT_EQ(pieces.read(0), expected);
    EXPECT_TRUE(
        pieces.place(0, static_cast<int64_t>(expected.find('\n')) + 1).ends_with(": row 2"));
  }
  for (const char* name : {"cut.parquet", "not.arrow"})
    EXPECT_THROW(open_pieces({folder.path() / name}), InputError) << name;
}

}  // namespace
}  // namespace farskip::text
