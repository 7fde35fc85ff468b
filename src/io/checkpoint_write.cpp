#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <system_error>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

using Shard = std::vector<TensorSpec>;

/// In the given order, each as full as it gets, and written by one.
std::vector<Shard> split(std::span<const TensorSpec> specs, int64_t max_bytes) {
  std::vector<TensorSpec> by_writer(specs.begin(), specs.end());
  std::stable_sort(by_writer.begin(), by_writer.end(),
                   [](const TensorSpec& a, const TensorSpec& b) { return a.writer < b.writer; });
  std::vector<Shard> shards(1);
  int64_t filled = 0;
  for (const TensorSpec& spec : by_writer) {
    const int64_t bytes = spec.bytes();
    if (!shards.back().empty() &&
        (filled + bytes > max_bytes || shards.back().back().writer != spec.writer)) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(spec);
    filled += bytes;
  }
  return shards;
}

std::string shard_name(size_t shard, size_t shards) {
  if (shards == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
  return name;
}

std::string index_text(const std::vector<Shard>& shards) {
  nlohmann::json weight_map = nlohmann::json::object();
  int64_t total = 0;
  for (size_t k = 0; k < shards.size(); ++k)
    for (const TensorSpec& spec : shards[k]) {
      weight_map[spec.name] = shard_name(k, shards.size());
      total += spec.bytes();
    }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  return index.dump(2) + '\n';
}

void for_each_name(const fs::path& directory, const std::regex& pattern,
                   const std::function<void(const fs::path&, const std::smatch&)>& visit) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    std::smatch match;
    if (std::regex_match(name, match, pattern)) visit(entry.path(), match);
  }
}

/// What killed runs left of AtomicFile: the size of a checkpoint each.
void remove_leftovers(const fs::path& directory) {
  static const std::regex pattern(R"(\..+\.(\d{1,9})-\d+\.partial)");
  for_each_name(directory, pattern, [](const fs::path& path, const std::smatch& match) {
    if (::kill(std::stoi(match[1]), 0) != 0 && errno == ESRCH) fs::remove(path);
  });
}

void remove_weights(const fs::path& directory) {
  static const std::regex pattern(
      R"(model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json)");
  for_each_name(directory, pattern, [](const fs::path& path, auto&) { fs::remove(path); });
}

/// Files written beside their places, to be committed together.
class Staged {
 public:
  explicit Staged(fs::path directory) : directory_(std::move(directory)) {}

  AtomicFile& add(const fs::path& name) {
    return *files_.emplace_back(std::make_unique<AtomicFile>(directory_ / name));
  }
  void add(const fs::path& name, std::string_view bytes) {
    AtomicFile& file = add(name);
    file.write(bytes);
    file.flush();
  }
  /// A file as it is, whatever its size.
  void copy(const fs::path& source, const fs::path& name) {
    fs::create_directories((directory_ / name).parent_path());
    AtomicFile& file = add(name);
    std::ifstream in(source, std::ios::binary);
    std::string bytes(size_t{1} << 20, '\0');
    while (in.read(bytes.data(), std::ssize(bytes)) || in.gcount() > 0)
      file.write(std::string_view(bytes).substr(0, in.gcount()));
    if (!in.eof()) throw InputError(source.string() + ": can't be read");
    file.flush();
  }
  void commit() {
    for (const auto& file : files_) file->take_place();
    sync_folder(directory_);
  }

 private:
  fs::path directory_;
  std::vector<std::unique_ptr<AtomicFile>> files_;
};

void write(const fs::path& directory, const Json& config, std::span<const TensorSpec> specs,
           const Producer& produce, const WriteOptions& options) {
  std::error_code failed;
  fs::create_directories(directory, failed);
  if (!fs::is_directory(directory))
    throw InputError(directory.string() + ": found a place where no directory can be made (" +
                     (failed ? failed.message() : "a file of this name") +
                     "), expected a directory or a new name");
  const Team& team = options.team;
  const bool leads = team.rank == 0;
  if (leads) remove_leftovers(directory);
  team.barrier();
  Staged staged(directory);
  const auto shards = split(specs, options.max_shard_bytes);
  for (size_t k = 0; k < shards.size(); ++k) {
    if (shards[k].empty() ? !leads : shards[k].front().writer != team.rank) continue;
    AtomicFile& file = staged.add(shard_name(k, shards.size()));
    write_safetensors(file, shards[k], produce, {{"format", "pt"}});
    file.flush();
  }
  if (shards.size() > 1 && leads) staged.add("model.safetensors.index.json", index_text(shards));
  const auto& companions = options.companions;
  const bool copies = leads && companions && !fs::equivalent(companions->directory, directory);
  if (copies)
    for (const fs::path& name : companions->names)
      if (!options.files.contains(name)) staged.copy(companions->directory / name, name);
  for (const auto& [name, text] : options.files)
    if (leads && text) staged.add(name, *text);
  AtomicFile config_file(directory / "config.json");
  config_file.write(config.dump(2) + '\n');
  config_file.flush();

  // From here on the old checkpoint is gone; until the last line the directory does not open.
  team.barrier();
  if (leads) {
    fs::remove(directory / "config.json");
    sync_folder(directory);
    remove_weights(directory);
    if (copies)
      for (const fs::path& name : io::companions(directory, /*only_tokenizer=*/true).names)
        fs::remove(directory / name);
    for (const auto& [name, text] : options.files) fs::remove(directory / name);
  }
  team.barrier();
  staged.commit();
  team.barrier();
  if (leads) config_file.commit();
  team.barrier();
}

}  // namespace

void write_checkpoint(const fs::path& directory, const Json& config,
                      std::span<const TensorSpec> specs, const Producer& produce,
                      const WriteOptions& options) {
  try {
    write(directory, config, specs, produce, options);
  } catch (const fs::filesystem_error& error) {
    throw Error(directory.string() + ": can't be written: " + error.code().message());
  }
}

}  // namespace farskip::io
