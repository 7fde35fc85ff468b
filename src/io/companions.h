// The files of a checkpoint's folder that belong to its model and are no weights.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace farskip::io {

struct Companions {
  std::filesystem::path directory;
  std::vector<std::filesystem::path> names;  ///< within it, sorted
};

/// What stands in the folder (and in additional_chat_templates/) and is neither config.json, nor
/// weights in any format, nor what a training run leaves, nor hidden: tokenizer, templates,
/// generation and preprocessor settings, Python files, licence, README. Links count as what they
/// point to; InputError for one that points nowhere. `only_tokenizer`: no others than the
/// tokenizer's (generation_config.json is among them), which may lie in a folder of other things.
Companions companions(const std::filesystem::path& directory, bool only_tokenizer = false);

/// Texts by name; none: no such file.
using Files = std::map<std::string, std::optional<std::string>>;

}  // namespace farskip::io
