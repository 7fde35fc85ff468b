// What the tests of training share: golden models, a tokenizer of one token a byte, folders.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "io/json_file.h"
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

/// What the verbs are run with: the demo's config.json made tiny, and a text.
inline std::filesystem::path demo_data() {
  return std::filesystem::path(FARSKIP_SOURCE_DIR) / "data" / "demo";
}
inline void write_tiny_run(const Folder& folder) {
  io::Json config = io::read_json_file(demo_data() / "config.json");
  config["hidden_size"] = 32;
  config["num_hidden_layers"] = 3;
  config["intermediate_size"] = 48;
  config["moe_intermediate_size"] = 16;
  config["n_routed_experts"] = 4;
  config["num_experts_per_tok"] = 2;
  config["num_attention_heads"] = config["num_key_value_heads"] = 2;
  io::write_json_file(folder / "config.json", config);
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += "It was the best of times, number " + std::to_string(i) + ".\n";
  folder.file("text.txt", text);
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
