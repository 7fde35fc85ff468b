// Tokenizers and model folders of the tests.
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace farskip::text {

/// Unpacked text of tests/data/<name>.gz.
inline std::string unpacked(const std::string& name) {
  const std::string command = "gzip -dc '" FARSKIP_TEST_DATA "/" + name + ".gz'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string text;
  char part[1 << 16];
  for (size_t n; (n = std::fread(part, 1, sizeof part, pipe.get())) > 0;) text.append(part, n);
  return text;
}

/// A folder of files that goes away with the object.
class ModelFolder {
 public:
  explicit ModelFolder(const std::string& name, std::map<std::string, std::string> files = {})
      : path_(std::filesystem::path(::testing::TempDir()) / ("farskip_text_" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    for (const auto& [file, text] : files) write(file, text);
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file, std::ios::binary) << text;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Opened once a test program: demo, deepseek_v3, qwen3 or gpt2, without what stands beside them.
inline const Tokenizer& tokenizer_of(const std::string& name) {
  static std::map<std::string, Tokenizer> opened;
  const auto found = opened.find(name);
  if (found != opened.end()) return found->second;
  if (name == "demo")
    return opened.emplace(name, Tokenizer::open(FARSKIP_SOURCE_DIR "/data/demo")).first->second;
  const ModelFolder folder(
      name, {{"tokenizer.json", unpacked("tokenizers/" + name + ".tokenizer.json")}});
  return opened.emplace(name, Tokenizer::open(folder.path())).first->second;
}

}  // namespace farskip::text
