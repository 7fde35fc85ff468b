#include "io/checkpoint.h"

#include <ATen/ATen.h>

#include "io/json_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

constexpr const char* kAdapter = "adapter_config.json";

[[noreturn]] void refuse_without_weights(const fs::path& directory) {
  const bool pickled = fs::exists(directory / "pytorch_model.bin") ||
                       fs::exists(directory / "pytorch_model.bin.index.json");
  throw InputError(util::concat(
      directory.string(), ": found ", pickled ? "pytorch_model.bin" : "no weights", ", expected ",
      kWeights, " or ", kIndex, pickled ? " (convert the checkpoint to safetensors first)" : ""));
}

/// What the index says, from tensor to file; a plain name, so that it reaches no file outside its
/// checkpoint.
std::string shard_name(const nlohmann::json& shard, const std::string& label,
                       const std::string& tensor) {
  const std::string name = shard.is_string() ? shard.get<std::string>() : "";
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(std::string("/\\\0", 3)) != std::string::npos)
    throw InputError(label + ": " + printable(tensor) + ": found " + shown(shard) +
                     ", expected the name of a file in the same directory");
  return name;
}

}  // namespace

void Checkpoint::add_single(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  for (const auto& [name, entry] : file.header().tensors) sources_[name] = {file, name};
}

void Checkpoint::add_shards() {
  const std::string label = (directory_ / kIndex).string();
  const nlohmann::json index = read_large_json_file(directory_ / kIndex);
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object())
    throw InputError(label + ": weight_map: found none, expected an object from tensor to file");
  std::map<std::string, SafetensorsFile> shards;  // by file name
  std::vector<std::string> stale;
  for (const auto& [name, shard] : weight_map->items()) {
    const std::string file = shard_name(shard, label, name);
    auto opened = shards.find(file);
    if (opened == shards.end()) {
      const fs::path path = directory_ / file;
      if (!fs::exists(path))
        throw InputError(label + ": found no shard " + in_quotes(file) +
                         " in the directory, expected it (incomplete download?)");
      opened = shards.emplace(file, SafetensorsFile::open(path)).first;
    }
    if (opened->second.contains(name))
      sources_[name] = {opened->second, name};
    else
      stale.push_back(name);
  }
  if (!stale.empty())
    notes_.push_back(util::concat(
        label, ": ", stale.size(),
        " tensors are not in the files that it names (first: ", printable(stale.front()), ")"));
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  if (!fs::is_directory(directory))
    throw InputError(directory.string() + ": found " +
                     (fs::exists(directory) ? "no directory" : "nothing") +
                     ", expected a directory with config.json and " + kWeights);
  const bool adapter = fs::exists(directory / kAdapter);
  if (!fs::exists(directory / "config.json"))
    throw InputError(directory.string() + ": found " +
                     (adapter ? "an adapter (adapter_config.json) alone, expected a whole model "
                                "(merge the adapter into its base first)"
                              : "no config.json, expected a checkpoint (incomplete download, or a "
                                "save that was interrupted?)"));
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  if (fs::exists(directory / kWeights))
    checkpoint.add_single(directory / kWeights);
  else if (fs::exists(directory / kIndex))
    checkpoint.add_shards();
  else
    refuse_without_weights(directory);
  if (adapter)
    checkpoint.notes_.push_back(directory.string() +
                                ": the adapter beside the model is not applied (merge it first)");
  return checkpoint;
}

Checkpoint Checkpoint::renamed(const std::string& from, const std::string& to) const {
  Checkpoint other = *this;
  other.sources_.clear();
  for (const auto& [name, source] : sources_)
    other.sources_[name.starts_with(from) ? to + name.substr(from.size()) : name] = source;
  return other;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, source] : sources_) names.push_back(name);
  return names;
}

const Checkpoint::Source& Checkpoint::source(const std::string& name) const {
  const auto found = sources_.find(name);
  if (found == sources_.end())
    throw InputError(directory_.string() + ": " + printable(name) +
                     ": found no such tensor, expected it in the checkpoint");
  return found->second;
}

const TensorEntry& Checkpoint::entry(const std::string& name) const {
  const Source& found = source(name);
  return found.file.header().tensors.at(found.name);
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  const Source& found = source(name);
  return found.file.tensor(found.name);
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
