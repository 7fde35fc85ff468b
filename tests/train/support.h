// What the tests of training share: golden models, a tokenizer of one token a byte, folders.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "model/model.h"
#include "train/samples.h"

namespace farskip::train {

/// A folder of this test, removed with the object.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("farskip-train-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::filesystem::path file(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(FARSKIP_TEST_DATA) / "models" / name;
}

/// A token a byte, in a vocabulary of 99.
inline TextCodec byte_codec() {
  TextCodec codec;
  codec.encode = [](std::string_view text, bool) {
    std::vector<int64_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) % 95 + 4);
    return ids;
  };
  codec.end_of_text = 1;
  return codec;
}

}  // namespace farskip::train
