#include "io/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "io/text.h"
#include "io/unicode.h"
#include "util/error.h"

namespace farskip::io {
namespace {

template <auto free>
struct Free {
  template <class Handle>
  void operator()(Handle* handle) const {
    free(handle);
  }
};

using CodeHandle = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

std::string message_of(int error) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// What one thread needs to match. Kept from call to call: making it costs more than most matches.
struct Matcher {
  MatchData data{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  JitStack stack{pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr)};

  Matcher() {
    if (!data || !context || !stack) throw std::bad_alloc();
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

struct Regex::Code {
  CodeHandle handle;
  std::string name;
};

Regex Regex::compile(std::string_view oniguruma, const std::string& name) {
  return build(translate_regex(oniguruma, name), PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, name);
}

Regex Regex::literal(std::string_view text, const std::string& name) {
  util::require(!text.empty(), name, "an empty pattern", "text");
  return build(text, PCRE2_LITERAL, name);
}

Regex Regex::build(std::string_view pattern, unsigned options, const std::string& name) {
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodeHandle handle(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                  options | PCRE2_UTF, &error, &offset, context.get()));
  if (!handle)
    throw InputError(util::concat(name, ": found the expression ", in_quotes(pattern), " with \"",
                                  message_of(error), "\" at offset ", offset,
                                  ", expected a valid one"));
  pcre2_jit_compile(handle.get(), PCRE2_JIT_COMPLETE);  // without it, matching is only slower
  return Regex(std::make_shared<const Code>(Code{std::move(handle), name}));
}

void Regex::split(std::string_view text, std::vector<std::string_view>& parts) const {
  thread_local Matcher matcher;
  const auto add = [&](size_t from, size_t to) {
    if (from < to) parts.push_back(text.substr(from, to - from));
  };
  size_t cut = 0;    // end of the last match
  size_t start = 0;  // where the next search starts
  while (start <= text.size()) {
    // The caller vouches for UTF-8: a check here would read the whole text for every match.
    const int found =
        pcre2_match(code_->handle.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    start, PCRE2_NO_UTF_CHECK, matcher.data.get(), matcher.context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      throw Error(util::concat(code_->name, ": the expression failed on ", in_quotes(text, 40),
                               ": ", message_of(found)));
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(matcher.data.get());
    add(cut, match[0]);
    add(match[0], match[1]);
    cut = match[1];
    start = match[1];
    if (match[0] == match[1])
      start += start < text.size() ? utf8_length(static_cast<unsigned char>(text[start])) : 1;
  }
  add(cut, text.size());
}

}  // namespace farskip::io
