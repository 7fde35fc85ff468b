// Encodes and decodes what it reads, for scripts/oracle/check_tokenizer.py and for timing.
//   tokenize_worker MODEL
// Reads texts from standard input, each a native uint32 of bytes and the bytes. Answers each with a
// uint32 of ids, the ids as uint32, a uint32 of bytes and the bytes decoded with special tokens.
//   tokenize_worker MODEL FILE
// Prints the speed of encoding the file on one thread.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "io/text.h"
#include "text/tokenizer.h"

namespace {

bool read_exactly(void* to, size_t bytes) {
  return bytes == 0 || std::fread(to, 1, bytes, stdin) == bytes;
}

void write(const void* from, size_t bytes) {
  if (bytes > 0) std::fwrite(from, 1, bytes, stdout);
}

void answer(const farskip::text::Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int64_t> ids = tokenizer.encode(text);
  const std::vector<uint32_t> narrow(ids.begin(), ids.end());
  const auto count = static_cast<uint32_t>(narrow.size());
  write(&count, sizeof count);
  write(narrow.data(), narrow.size() * sizeof(uint32_t));
  const std::string decoded = tokenizer.decode(ids, false);
  const auto length = static_cast<uint32_t>(decoded.size());
  write(&length, sizeof length);
  write(decoded.data(), decoded.size());
  std::fflush(stdout);
}

void time_file(const farskip::text::Tokenizer& tokenizer, const char* path) {
  const std::string text = farskip::io::read_file(path, int64_t{1} << 30);
  const auto start = std::chrono::steady_clock::now();
  const size_t ids = tokenizer.encode(text).size();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%zu bytes, %zu ids, %.1f MB/s\n", text.size(), ids,
              static_cast<double>(text.size()) / 1e6 / seconds.count());
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 3) {
    std::fputs("usage: tokenize_worker MODEL [FILE]\n", stderr);
    return 2;
  }
  const auto tokenizer = farskip::text::Tokenizer::open(argv[1]);
  if (argc == 3) {
    time_file(tokenizer, argv[2]);
    return 0;
  }
  uint32_t length = 0;
  std::string text;
  while (read_exactly(&length, sizeof length)) {
    text.resize(length);
    if (!read_exactly(text.data(), length)) return 2;
    answer(tokenizer, text);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "tokenize_worker: %s\n", error.what());
  return 2;
}
