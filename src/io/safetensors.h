// Safetensors files: reading without copying, writing whole.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors_header.h"

namespace farskip::io {

class AtomicFile;
class Mapping;

/// A memory-mapped file. A copy is cheap and shares the mapping. Thread-safe to read.
class SafetensorsFile {
 public:
  /// InputError if the file can't be read or its header is not sound.
  static SafetensorsFile open(const std::filesystem::path& path);

  const SafetensorsHeader& header() const;
  bool contains(const std::string& name) const { return header().tensors.contains(name); }
  /// A CPU tensor on the file's own pages, which it keeps mapped; a copy only where the bytes are
  /// not aligned to the element. Writing into it changes no file, but is seen by the others of this
  /// mapping. InputError if there is no such tensor.
  at::Tensor tensor(const std::string& name) const;

 private:
  std::shared_ptr<const Mapping> mapping_;
};

/// All tensors of a file (see SafetensorsFile::tensor).
std::map<std::string, at::Tensor> read_safetensors(const std::filesystem::path& path);

struct TensorSpec {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  int64_t writer = 0;  ///< which of several processes writes it (checkpoint.h, Team)

  int64_t bytes() const;
};

/// Gives the tensor that a spec describes, on any device and of any strides.
using Producer = std::function<at::Tensor(const TensorSpec&)>;
using Metadata = std::map<std::string, std::string>;

/// Writes a file that appears whole or not at all, asking for one tensor at a time: those of wide
/// elements first (so that all are aligned), else in the given order. Error if a tensor is not what
/// its spec says or the disk fails; InputError if the place can't be written to.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorSpec> specs,
                       const Producer& produce, const Metadata& metadata = {{"format", "pt"}});
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const Metadata& metadata = {{"format", "pt"}});
/// The same into a file that the caller commits.
void write_safetensors(AtomicFile& file, std::span<const TensorSpec> specs, const Producer& produce,
                       const Metadata& metadata);

}  // namespace farskip::io
