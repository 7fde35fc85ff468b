#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "util/error.h"

namespace farskip::io {
namespace {

const DtypeEntry& dtype_of(const TensorSpec& spec) {
  const DtypeEntry* dtype = find_dtype(spec.dtype);
  if (!dtype)
    throw Error(util::concat(spec.name, ": found type ", c10::toString(spec.dtype),
                             ", expected one that safetensors files have"));
  return *dtype;
}

/// Length and JSON, filled up with blanks so that the data starts at a multiple of eight.
std::string header_bytes(const std::vector<const TensorSpec*>& order, const Metadata& metadata) {
  nlohmann::json json = nlohmann::json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorSpec* spec : order) {
    const int64_t end = offset + spec->bytes();
    const bool is_new = json.emplace(spec->name, nlohmann::json{{"dtype", dtype_of(*spec).name},
                                                                {"shape", spec->shape},
                                                                {"data_offsets", {offset, end}}})
                            .second;
    if (!is_new)
      throw Error(spec->name + ": found twice among the tensors to write, expected once");
    offset = end;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (int k = 0; k < 8; ++k) length[k] = static_cast<char>(text.size() >> 8 * k);
  return length + text;
}

}  // namespace

int64_t TensorSpec::bytes() const {
  int64_t count = dtype_of(*this).bytes;
  for (const int64_t size : shape) count *= size;
  return count;
}

void write_safetensors(AtomicFile& file, std::span<const TensorSpec> specs, const Producer& produce,
                       const Metadata& metadata) {
  std::vector<const TensorSpec*> order;
  for (const TensorSpec& spec : specs) order.push_back(&spec);
  std::stable_sort(order.begin(), order.end(), [](const TensorSpec* a, const TensorSpec* b) {
    return dtype_of(*a).bytes > dtype_of(*b).bytes;
  });
  file.write(header_bytes(order, metadata));
  for (const TensorSpec* spec : order) {
    at::Tensor tensor = produce(*spec);
    if (!tensor.defined() || tensor.scalar_type() != spec->dtype || tensor.sizes() != spec->shape)
      throw Error(util::concat(
          spec->name, ": found ",
          tensor.defined() ? util::concat(c10::toString(tensor.scalar_type()), ' ', tensor.sizes())
                           : "no tensor",
          " to write, expected ", c10::toString(spec->dtype), ' ', at::IntArrayRef(spec->shape)));
    tensor = tensor.detach().to(at::kCPU).contiguous();
    file.write({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
  }
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorSpec> specs,
                       const Producer& produce, const Metadata& metadata) {
  AtomicFile file(path);
  write_safetensors(file, specs, produce, metadata);
  file.commit();
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const Metadata& metadata) {
  std::map<std::string, at::Tensor> by_name;
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    by_name[name] = tensor;
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  write_safetensors(
      path, specs, [&](const TensorSpec& spec) { return by_name.at(spec.name); }, metadata);
}

}  // namespace farskip::io
