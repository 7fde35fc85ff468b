#include "io/gzip.h"

#include <zlib.h>

#include <cstdio>
#include <memory>
#include <string>

#include "util/error.h"

namespace farskip::io {
namespace {

constexpr size_t kStretch = 256 << 10;
constexpr int kGzipOnly = 15 + 16;  ///< zlib's largest window, and the gzip header

struct Inflater {
  Inflater() {
    if (inflateInit2(&stream, kGzipOnly) != Z_OK) throw Error("zlib: found no memory");
  }
  ~Inflater() { inflateEnd(&stream); }
  z_stream stream{};
};

}  // namespace

void gunzip(const std::filesystem::path& path, const std::function<void(std::string_view)>& write) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  util::require(file != nullptr, path.string(), "a file that can't be opened", "a gzip file");
  Inflater inflater;
  z_stream& stream = inflater.stream;
  std::string in(kStretch, '\0'), out(kStretch, '\0');
  bool between = true;  // of two members
  const auto refill = [&] {
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(std::fread(in.data(), 1, in.size(), file.get()));
    return stream.avail_in > 0;
  };
  const auto damaged = [&](const char* what) {
    throw InputError(path.string() + ": found " + what + ", expected a whole gzip file");
  };
  while (stream.avail_in > 0 || refill()) {
    between = false;
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&stream, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      damaged("damaged gzip data");
    write(std::string_view(out).substr(0, out.size() - stream.avail_out));
    if (status == Z_STREAM_END) {
      between = true;
      inflateReset(&stream);
    }
  }
  if (!between) damaged("gzip data that end too early");
}

}  // namespace farskip::io
