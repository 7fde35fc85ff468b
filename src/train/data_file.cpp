#include "train/data_file.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "io/gzip.h"
#include "io/json_file.h"
#include "train/json_array.h"
#include "util/error.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

using namespace std::string_view_literals;

constexpr int64_t kHead = 64 << 10;  ///< bytes that tell what a file is
constexpr int64_t kStretch = 1 << 20;
constexpr int64_t kMostObject = 64 << 20;  ///< bytes of a file that is one object

enum class Kind { text, plain_text, lines, json, table };

struct Format {
  std::string_view magic, name;
};
constexpr std::array kRefusedMagics = {Format{"PK\x03\x04", "a zip archive"},
                                       Format{"\x28\xB5\x2F\xFD", "Zstandard data"},
                                       Format{"BZh", "bzip2 data"},
                                       Format{"\xFD"
                                              "7zXZ",
                                              "xz data"},
                                       Format{"\x04\x22\x4D\x18", "LZ4 data"},
                                       Format{"7z\xBC\xAF", "a 7z archive"},
                                       Format{"\x80\x02", "a pickle"},
                                       Format{"\x80\x03", "a pickle"},
                                       Format{"\x80\x04", "a pickle"},
                                       Format{"\x80\x05", "a pickle"},
                                       Format{"\x89HDF", "HDF5 data"},
                                       Format{"\x93NUMPY", "a NumPy array"},
                                       Format{"%PDF-", "a PDF file"},
                                       Format{"Obj\x01", "Avro data"},
                                       Format{"ORC", "ORC data"},
                                       Format{"GGUF", "a GGUF file"},
                                       Format{"\xFF\xFE", "UTF-16 text"},
                                       Format{"\xFE\xFF", "UTF-16 text"},
                                       Format{"\x00\x00\xFE\xFF"sv, "UTF-32 text"}};
constexpr std::array kRefusedNames = {".csv", ".tsv", ".xls", ".xlsx", ".ods", ".zip",
                                      ".tar", ".tgz", ".zst", ".bz2",  ".xz",  ".7z",
                                      ".pkl", ".pt",  ".pth", ".npy",  ".npz", ".safetensors",
                                      ".bin", ".h5",  ".orc", ".avro", ".pdf", ".docx"};
constexpr const char* kExpected =
    "text, .jsonl, .ndjson, .json, .parquet or .arrow, the first four also as .gz";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return c < 128 ? std::tolower(c) : c; });
  return text;
}

Kind kind_of_name(const fs::path& path, const std::string& extension) {
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), extension) != names.end();
  };
  if (is({".jsonl", ".ndjson", ".jsonlines"})) return Kind::lines;
  if (is({".json"})) return Kind::json;
  if (is({".parquet", ".arrow", ".feather"})) return Kind::table;
  if (is({".txt", ".text"})) return Kind::plain_text;
  for (const char* refused : kRefusedNames)
    util::require(extension != refused, path.string(), "a " + extension + " file", kExpected);
  return Kind::text;
}

/// A file that has no name and is gone once it is closed.
class TemporaryFile {
 public:
  TemporaryFile() : folder_(fs::temp_directory_path()) {
    std::string name = (folder_ / "farskip-data-XXXXXX").string();
    fd_ = util::UniqueFd(::mkstemp(name.data()));
    if (fd_.get() < 0) fail();
    ::unlink(name.c_str());
  }
  void write(std::string_view bytes) {
    size_ += static_cast<int64_t>(bytes.size());
    while (!bytes.empty()) {
      const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail();
      bytes.remove_prefix(count);
    }
  }
  /// The file holds what is read from now on.
  void become(DataFile& file) && {
    file.begin = 0;
    file.end = size_;
    file.unpacked = std::make_shared<const util::UniqueFd>(std::move(fd_));
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(util::concat(folder_.string(), ": unpacked data can't be written after ", size_,
                             " bytes: ", std::generic_category().message(errno),
                             " (TMPDIR names another folder)"));
  }
  fs::path folder_;
  util::UniqueFd fd_;
  int64_t size_ = 0;
};

bool starts(std::string_view text, std::string_view magic) {
  return text.starts_with(magic);
}

void each_stretch(const DataFile& file, const Write& write) {
  for (int64_t at = file.begin; at < file.end; at += kStretch)
    write(file.read(at, std::min(kStretch, file.end - at)));
}

bool is_object(std::string_view text) {
  try {
    return io::parse_json(text, "").is_object();
  } catch (const InputError&) {
    return false;
  }
}

/// Bytes of `head` that a text may not have: what the file is instead.
void refuse_binary(const fs::path& path, std::string_view head) {
  for (const Format& format : kRefusedMagics)
    util::require(!starts(head, format.magic), path.string(), format.name, kExpected);
  util::require(head.find('\0') == std::string_view::npos, path.string(),
                "binary data (a zero byte)", kExpected);
}

void unpack_table(DataFile& file, const TableReader& tables) {
  util::require(tables != nullptr, file.path.string(), "a Parquet or Arrow file",
                "text or JSON lines");
  TemporaryFile rows;
  tables(file.path, [&](std::string_view lines) { rows.write(lines); });
  std::move(rows).become(file);
  file.is_lines = file.has_rows = true;
}

/// .json: a list of rows, one row, or a row a line.
void unpack_json(DataFile& file, std::string_view head) {
  const size_t first = std::min(head.find_first_not_of(" \t\r\n"), head.size());
  const std::string_view begin = head.substr(first);
  const std::string_view line = begin.substr(0, begin.find('\n'));
  file.is_lines = true;
  TemporaryFile rows;
  if (starts(begin, "[")) {
    ArraySplitter splitter(file.path.string(), [&](std::string_view lines) { rows.write(lines); });
    each_stretch(file, [&](std::string_view bytes) { splitter.push(bytes); });
    splitter.finish();
  } else if (starts(begin, "{") && line.size() < begin.size() && !is_object(line)) {
    util::require(file.end <= kMostObject, file.path.string(), "one JSON object",
                  "a list of objects, or one a line");
    std::string whole = file.read(file.begin, file.end - file.begin);
    io::parse_json(whole, file.path.string());
    std::replace(whole.begin(), whole.end(), '\n', ' ');
    rows.write(whole);
  } else {
    return;
  }
  std::move(rows).become(file);
  file.has_rows = true;
}

}  // namespace

std::string DataFile::read(int64_t begin, int64_t length) const {
  util::UniqueFd opened;
  if (!unpacked) opened = util::open_to_read(path);
  const int fd = unpacked ? unpacked->get() : opened.get();
  std::string text(length, '\0');
  int64_t done = 0;
  while (done < length) {
    const ssize_t count = ::pread(fd, text.data() + done, length - done, begin + done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw Error(util::concat(
          path.string(), ": can't be read at byte ", begin + done, ": ",
          count == 0 ? std::string("it became shorter") : std::generic_category().message(errno)));
    done += count;
  }
  return text;
}

DataFile open_data_file(const fs::path& path, const TableReader& tables) {
  std::error_code failed;
  util::require(fs::is_regular_file(path, failed), path.string(),
                fs::is_directory(path, failed) ? "a folder" : "no such file", kExpected);
  DataFile file;
  file.path = path;
  file.end = static_cast<int64_t>(fs::file_size(path));
  util::require(file.end > 0, path.string(), "an empty file", "text");

  fs::path name = lower(path.filename().string());
  const bool zipped = starts(file.read(0, std::min<int64_t>(2, file.end)), "\x1F\x8B");
  util::require(zipped || name.extension() != ".gz", path.string(), "no gzip data in it",
                "a gzip file");
  if (name.extension() == ".gz") name = name.stem();
  const Kind kind = kind_of_name(path, name.extension().string());
  if (zipped) {
    TemporaryFile plain;
    io::gunzip(path, [&](std::string_view bytes) { plain.write(bytes); });
    std::move(plain).become(file);
    util::require(file.end > 0, path.string(), "nothing in it", "text");
  }

  std::string head = file.read(0, std::min(kHead, file.end));
  if (kind == Kind::table || starts(head, "PAR1") || starts(head, "ARROW1")) {
    util::require(!zipped, path.string(), "a compressed table",
                  "it unpacked (Parquet compresses by itself)");
    unpack_table(file, tables);
    util::require(file.end > 0, path.string(), "a table without rows", "rows");
    return file;
  }
  if (starts(head, "\xEF\xBB\xBF")) {
    file.begin = 3;
    head.erase(0, 3);
    util::require(file.end > 3, path.string(), "nothing but a byte order mark", "text");
  }
  refuse_binary(path, head);
  file.is_lines = kind == Kind::lines;
  if (kind == Kind::json) unpack_json(file, head);
  if (kind == Kind::text && head.starts_with('{'))
    util::require(!is_object(head.substr(0, head.find('\n'))), path.string(),
                  "JSON objects in a file of no known kind", "a name that ends with .jsonl");
  util::require(file.end > file.begin, path.string(), "an empty list", "rows");
  return file;
}

}  // namespace farskip::train
