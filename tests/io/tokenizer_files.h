// The tokenizers of the tests.
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "io/tokenizer.h"

namespace farskip::io {

/// Unpacked text of tests/data/<name>.gz.
inline std::string unpacked(const std::string& name) {
  const std::string command = "gzip -dc '" FARSKIP_TEST_DATA "/" + name + ".gz'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string text;
  char part[1 << 16];
  for (size_t n; (n = std::fread(part, 1, sizeof part, pipe.get())) > 0;) text.append(part, n);
  return text;
}

/// Loaded once a test program: demo, deepseek_v3, qwen3 or gpt2.
inline const Tokenizer& tokenizer_of(const std::string& name) {
  static std::map<std::string, Tokenizer> loaded;
  const auto found = loaded.find(name);
  if (found != loaded.end()) return found->second;
  const Tokenizer made =
      name == "demo" ? Tokenizer::open(FARSKIP_SOURCE_DIR "/data/demo")
                     : Tokenizer::parse(unpacked("tokenizers/" + name + ".tokenizer.json"), name);
  return loaded.emplace(name, made).first->second;
}

}  // namespace farskip::io
