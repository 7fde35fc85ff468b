#include "io/companions.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "util/error.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemplates = "additional_chat_templates";

/// Without "tokenization_*.py".
constexpr std::array<std::string_view, 13> kTokenizer = {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tiktoken.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
};

/// Of weights, and of a trainer's state.
constexpr std::array<std::string_view, 14> kWeightEnds = {
    ".safetensors", ".bin",     ".pt",  ".pth", ".ckpt", ".gguf",      ".ggml",
    ".h5",          ".msgpack", ".npz", ".pkl", ".onnx", ".onnx_data", ".index.json"};

/// config.json, which is written anew; what our training leaves, and transformers'; what makes
/// readers take the folder for an adapter's.
constexpr std::array<std::string_view, 6> kOthers = {"config.json",        "metrics.jsonl",
                                                     "loss.svg",           "training.json",
                                                     "trainer_state.json", "adapter_config.json"};

template <size_t N>
bool among(const std::array<std::string_view, N>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_tokenizers(const std::string& name) {
  return among(kTokenizer, name) || (name.starts_with("tokenization_") && name.ends_with(".py"));
}

bool belongs(const std::string& name) {
  if (name.starts_with('.') || among(kOthers, name)) return false;
  return std::none_of(kWeightEnds.begin(), kWeightEnds.end(),
                      [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace

Companions companions(const fs::path& directory, bool only_tokenizer) {
  Companions found{directory, {}};
  const auto visit = [&](const fs::path& folder, bool takes_all) {
    for (const auto& entry : fs::directory_iterator(directory / folder)) {
      const std::string name = entry.path().filename().string();
      if (takes_all ? !belongs(name) : !is_tokenizers(name)) continue;
      if (fs::is_symlink(entry.path()) && !fs::exists(entry.path()))
        throw InputError(entry.path().string() +
                         ": found a link to nothing, expected a file (incomplete download?)");
      if (fs::is_regular_file(entry.path())) found.names.push_back(folder / name);
    }
  };
  visit("", !only_tokenizer);
  if (fs::is_directory(directory / kTemplates)) visit(kTemplates, true);
  std::sort(found.names.begin(), found.names.end());
  return found;
}

}  // namespace farskip::io
