// A small byte-level tokenizer, changed by a JSON merge patch (the input up to its first NUL), then
// any text (what follows). Whatever the patch, the file or the text is refused in one line or comes
// back in ids of the vocabulary; unchanged, every text of valid UTF-8 comes back as it was.
#include <cstdint>
#include <cstdlib>

#include "byte_tokenizer.h"
#include "io/tokenizer.h"
#include "util/error.h"

namespace {

using namespace farskip;

void run(std::string_view patch, std::string_view text) {
  static const io::Json base =
      byte_tokenizer({"ab", "abc", "Ġab", "bc"}, {"a b", "ab c", "Ġ ab", "b c"});
  io::Json file = base;
  if (!patch.empty()) file.merge_patch(io::parse_json(patch, "patch"));
  const io::Tokenizer tokenizer = io::Tokenizer::parse(file.dump(), "tokenizer.json");
  const auto ids = tokenizer.encode(text, /*add_special_tokens=*/true);
  for (const int64_t id : ids)
    if (id < 0 || id >= tokenizer.vocabulary_size()) std::abort();
  const std::string back = tokenizer.decode(ids, /*skip_special_tokens=*/false);
  io::TextStream stream(tokenizer, /*skip_special_tokens=*/false);
  std::string streamed;
  for (const int64_t id : ids) streamed += stream.push(id);
  if (streamed + stream.finish() != back) std::abort();
  if (patch.empty() && back != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  try {
    run(input.substr(0, end), end == input.npos ? "" : input.substr(end + 1));
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
