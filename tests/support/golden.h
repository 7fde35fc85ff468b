// The golden models of tests/data/models, which scripts/oracle/make_goldens.py wrote.
#pragma once
#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/model.h"

namespace farskip::test {

inline const std::vector<std::string>& golden_models() {
  static const std::vector<std::string> names = {"deepseek_v2",
                                                 "deepseek_v2_qlora_groups",
                                                 "deepseek_v2_normalised",
                                                 "deepseek_v3",
                                                 "moonlight",
                                                 "deepseek_v3_halves",
                                                 "instella_moe",
                                                 "qwen3_moe",
                                                 "qwen3_moe_dense_middle"};
  return names;
}

inline std::filesystem::path golden_directory(const std::string& name) {
  return std::filesystem::path(FARSKIP_TEST_DATA) / "models" / name;
}

using Tensors = std::map<std::string, at::Tensor>;
inline Tensors golden_values(const std::string& name) {
  return io::read_safetensors(golden_directory(name) / "golden.safetensors");
}

/// "regular", "farskip", "attention", "moe", or one of these and its layers: "farskip.last2",
/// "farskip.:-1".
inline model::Connectivity variant(const std::string& text, int64_t depth) {
  const auto dot = text.find('.');
  const auto kind = model::parse_connectivity_kind(text.substr(0, dot));
  if (dot == std::string::npos) return {kind, {0, depth}, depth};
  const std::string range = text.substr(dot + 1);
  return {kind, model::parse_layer_range(range == "last2" ? "last:2" : range, depth), depth};
}
inline constexpr const char* kVariants[] = {"regular", "farskip", "attention", "moe",
                                            "farskip.last2"};

/// Largest difference, as a share of the expected values' standard deviation.
inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.to(at::kDouble);
  return ((found.to(at::kDouble).view_as(wide) - wide).abs().max() / wide.std()).item<double>();
}

}  // namespace farskip::test
