// Checkpoint directories in Hugging Face layout: config.json beside model.safetensors, or beside
// shards with model.safetensors.index.json.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/companions.h"
#include "io/json_fields.h"
#include "io/safetensors.h"

namespace farskip::io {

/// The tensors of a checkpoint, by name, mapped from its files. Thread-safe.
class Checkpoint {
 public:
  /// InputError if the directory holds no complete checkpoint: no config.json (which is written
  /// last), no weights, a shard that the index names but that is not there.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  /// What of the directory is passed over: tensors that the index names but its files do not have,
  /// an adapter. One line each.
  const std::vector<std::string>& notes() const { return notes_; }
  std::vector<std::string> names() const;  ///< sorted
  bool contains(const std::string& name) const { return sources_.contains(name); }
  const TensorEntry& entry(const std::string& name) const;
  /// See SafetensorsFile::tensor.
  at::Tensor tensor(const std::string& name) const;
  /// The same, of this shape and a floating type (F64, F32, BF16, F16), else InputError.
  at::Tensor require(const std::string& name, at::IntArrayRef shape) const;
  /// The same with `to` in place of the beginning `from` of names that begin so.
  Checkpoint renamed(const std::string& from, const std::string& to) const;

 private:
  struct Source {
    SafetensorsFile file;
    std::string name;  ///< of the tensor in it
  };
  const Source& source(const std::string& name) const;
  void add_single(const std::filesystem::path& path);
  void add_shards();

  std::filesystem::path directory_;
  std::map<std::string, Source> sources_;  ///< by tensor
  std::vector<std::string> notes_;
};

/// Processes that write one checkpoint together, each the tensors that are its own.
struct Team {
  int64_t rank = 0;
  /// Returns when all of them have called it.
  std::function<void()> barrier = [] {};
};

struct WriteOptions {
  int64_t max_shard_bytes = 5'000'000'000;  ///< more weights than this are split into shards
  /// Files that are copied as well, unless they are the directory's own. They take the place of
  /// all tokenizer files that are there.
  std::optional<Companions> companions = std::nullopt;
  /// Texts that are written as well, before companions of these names.
  Files files = {};
  Team team = {};
};

/// Writes a checkpoint into `directory`, which is made if need be. Everything is first written
/// beside under hidden names; then config.json, without which no checkpoint opens, is taken away,
/// the old weights are removed, the new files take their places, and config.json comes back last.
/// So whenever this is killed, the directory holds the old checkpoint, the new one, or one that
/// refuses to open. The tensors may lie on the old files' pages. One writer a directory at a time,
/// or a team that calls this with the same specs and `produce` for each one's own.
void write_checkpoint(const std::filesystem::path& directory, const Json& config,
                      std::span<const TensorSpec> specs, const Producer& produce,
                      const WriteOptions& options = {});

}  // namespace farskip::io
