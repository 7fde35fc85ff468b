#include "io/safetensors_header.h"

#include <algorithm>
#include <optional>

#include "io/json_file.h"
#include "util/error.h"

namespace farskip::io {
namespace {

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (int k = 7; k >= 0; --k) value = value << 8 | static_cast<unsigned char>(bytes[k]);
  return value;
}

/// The JSON text between the length and the data.
std::string_view header_text(std::string_view file, const std::string& name) {
  if (file.starts_with("version https://git-lfs"))
    throw InputError(name +
                     ": found a git-lfs pointer, expected a safetensors file (git lfs pull)");
  if (file.size() < 8)
    throw InputError(util::concat(name, ": found a file of ", file.size(),
                                  " bytes, expected a safetensors file (incomplete download?)"));
  const uint64_t length = little_endian(file);
  if (length > kMaxHeaderBytes)
    throw InputError(util::concat(name, ": found a header length of ", length,
                                  " bytes, expected at most ", kMaxHeaderBytes,
                                  " (not a safetensors file?)"));
  if (length > file.size() - 8)
    throw InputError(util::concat(name, ": found a file of ", file.size(),
                                  " bytes, expected a header of ", length,
                                  " bytes in it (incomplete download?)"));
  const std::string_view text = file.substr(8, length);
  if (!text.starts_with('{'))
    throw InputError(name + ": header: found " + in_quotes(text, 16) +
                     ", expected a JSON object (not a safetensors file?)");
  return text;
}

/// Bytes of dtype x shape; nothing if they, or the strides of an empty tensor, leave int64.
std::optional<uint64_t> byte_count(const DtypeEntry& dtype, const std::vector<int64_t>& shape) {
  int64_t bytes = dtype.bytes;
  bool empty = false;
  for (const int64_t size : shape) {
    empty |= size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

TensorEntry parse_entry(const nlohmann::json& json, const std::string& label) {
  const Fields fields(Json(json), label);
  TensorEntry entry;
  entry.dtype = find_dtype(fields.string("dtype"));
  if (!entry.dtype) fields.refuse("dtype", "one of safetensors' types, such as \"BF16\"");
  entry.shape = fields.integers("shape", 0);
  if (entry.shape.size() > 64) fields.refuse("shape", "at most 64 dimensions");
  const auto offsets = fields.integers("data_offsets", 0);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    fields.refuse("data_offsets", "a begin and an end that is not before it");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const auto bytes = byte_count(*entry.dtype, entry.shape);
  if (!bytes) fields.refuse("shape", "a number of bytes that fits 63 bits");
  if (*bytes != entry.end - entry.begin)
    fields.refuse("data_offsets", util::concat(*bytes, " bytes, as ", entry.dtype->name, ' ',
                                               shown(json["shape"]), " takes"));
  return entry;
}

/// No byte belongs to two tensors, none to nobody, and all are there.
void check_cover(const SafetensorsHeader& header, uint64_t data_bytes, const std::string& name) {
  std::vector<const std::pair<const std::string, TensorEntry>*> order;
  for (const auto& tensor : header.tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  for (const auto* tensor : order) {
    const auto& [tensor_name, entry] = *tensor;
    if (entry.begin != covered)
      throw InputError(util::concat(name, ": ", printable(tensor_name), ": data_offsets: found ",
                                    entry.begin < covered ? "an overlap" : "a gap", " at ",
                                    entry.begin, ", expected ", covered,
                                    ", where the tensor before it ends"));
    covered = entry.end;
  }
  if (covered > data_bytes)
    throw InputError(util::concat(name, ": found a file of ", header.data_begin + data_bytes,
                                  " bytes, expected ", header.data_begin + covered,
                                  " as its header says (incomplete download?)"));
  if (covered < data_bytes)
    throw InputError(util::concat(name, ": found ", data_bytes - covered,
                                  " bytes after the last tensor, expected none"));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& name) {
  const std::string_view text = header_text(file, name);
  const nlohmann::json json = parse_large_json(text, name + ": header");
  SafetensorsHeader header;
  header.data_begin = 8 + text.size();
  for (const auto& [key, value] : json.items()) {
    if (key != "__metadata__") {
      header.tensors.emplace(key, parse_entry(value, name + ": " + printable(key)));
      continue;
    }
    util::require(value.is_object(), name + ": __metadata__", shown(Json(value)), "an object");
    for (const auto& [item, text_value] : value.items()) {
      util::require(text_value.is_string(), name + ": __metadata__: " + printable(item),
                    shown(Json(text_value)), "a string");
      header.metadata[item] = text_value.get<std::string>();
    }
  }
  check_cover(header, file.size() - header.data_begin, name);
  return header;
}

}  // namespace farskip::io
