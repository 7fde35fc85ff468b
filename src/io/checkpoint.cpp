#include "io/checkpoint.h"

#include <ATen/ATen.h>

#include "io/json_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

[[noreturn]] void refuse_without_weights(const fs::path& directory) {
  const bool pickled = fs::exists(directory / "pytorch_model.bin") ||
                       fs::exists(directory / "pytorch_model.bin.index.json");
  throw InputError(util::concat(
      directory.string(), ": found ", pickled ? "pytorch_model.bin" : "no weights", ", expected ",
      kWeights, " or ", kIndex, pickled ? " (convert the checkpoint to safetensors first)" : ""));
}

using Files = std::map<std::string, SafetensorsFile>;

Files open_single(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  Files files;
  for (const auto& [name, entry] : file.header().tensors) files.emplace(name, file);
  return files;
}

Files open_shards(const fs::path& directory) {
  const std::string label = (directory / kIndex).string();
  const nlohmann::json index = read_large_json_file(directory / kIndex);
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object())
    throw InputError(label + ": weight_map: found none, expected an object from tensor to file");
  Files shards;  // by file name
  Files files;
  for (const auto& [name, shard] : weight_map->items()) {
    // A plain name, so that an index reaches no file outside its checkpoint.
    const std::string shard_name = shard.is_string() ? shard.get<std::string>() : "";
    if (shard_name.empty() || shard_name == "." || shard_name == ".." ||
        shard_name.find_first_of(std::string("/\\\0", 3)) != std::string::npos)
      throw InputError(label + ": " + printable(name) + ": found " + shown(shard) +
                       ", expected the name of a file in the same directory");
    auto opened = shards.find(shard_name);
    if (opened == shards.end()) {
      const fs::path path = directory / shard_name;
      if (!fs::exists(path))
        throw InputError(label + ": found no shard " + in_quotes(shard_name) +
                         " in the directory, expected it (incomplete download?)");
      opened = shards.emplace(shard_name, SafetensorsFile::open(path)).first;
    }
    if (!opened->second.contains(name))
      throw InputError(label + ": " + printable(name) + ": found no such tensor in " +
                       printable(shard_name) + ", expected it there");
    files.emplace(name, opened->second);
  }
  return files;
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& directory) {
  if (!fs::is_directory(directory))
    throw InputError(directory.string() + ": found " +
                     (fs::exists(directory) ? "no directory" : "nothing") +
                     ", expected a directory with config.json and " + kWeights);
  if (!fs::exists(directory / "config.json"))
    throw InputError(
        directory.string() +
        ": found no config.json, expected a checkpoint (incomplete download, or a save "
        "that was interrupted?)");
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  if (fs::exists(directory / kWeights))
    checkpoint.files_ = open_single(directory / kWeights);
  else if (fs::exists(directory / kIndex))
    checkpoint.files_ = open_shards(directory);
  else
    refuse_without_weights(directory);
  return checkpoint;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : files_) names.push_back(name);
  return names;
}

const SafetensorsFile& Checkpoint::file_of(const std::string& name) const {
  const auto file = files_.find(name);
  if (file == files_.end())
    throw InputError(directory_.string() + ": " + printable(name) +
                     ": found no such tensor, expected it in the checkpoint");
  return file->second;
}

const TensorEntry& Checkpoint::entry(const std::string& name) const {
  return file_of(name).header().tensors.at(name);
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  return file_of(name).tensor(name);
}

at::Tensor Checkpoint::require(const std::string& name, at::IntArrayRef shape) const {
  const TensorEntry& found = entry(name);
  util::require(at::IntArrayRef(found.shape) == shape, directory_.string() + ": " + name,
                util::concat("shape ", at::IntArrayRef(found.shape)), shape);
  const at::ScalarType type = found.dtype->type;
  if (type != at::kDouble && type != at::kFloat && type != at::kBFloat16 && type != at::kHalf)
    throw InputError(util::concat(directory_.string(), ": ", name, ": found type ",
                                  found.dtype->name, ", expected F32, BF16, F16 or F64"));
  return tensor(name);
}

}  // namespace farskip::io
