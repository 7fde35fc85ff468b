// Models of every family that four ranks can share: the golden ones' configurations with four
// attention heads, and other weights.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <unistd.h>

#include <functional>

#include "forms/form.h"
#include "io/json_file.h"
#include "support/golden.h"

namespace farskip::test {

/// A checkpoint in a folder of its own, which goes with the object.
class SharedModel {
 public:
  explicit SharedModel(
      const std::string& name, const std::function<void(io::Json&)>& change = [](io::Json&) {})
      : directory_(std::filesystem::temp_directory_path() /
                   ("farskip-shared-" + std::to_string(::getpid()) + "-" + name)) {
    const at::NoGradGuard no_grad;
    io::Json json = io::read_json_file(golden_directory(name) / "config.json");
    const bool grouped = json.at("num_attention_heads") != json.at("num_key_value_heads");
    json["num_attention_heads"] = 4;
    if (!grouped) json["num_key_value_heads"] = 4;
    change(json);
    const model::ModelConfig config = model::parse_config(json, name);
    model::Model model = model::random_model(config, at::kDouble, 3);
    const auto generator = at::detail::createCPUGenerator(5);
    for (const model::Binding& binding : model::bind(model.weights, config)) {
      const bool norm = binding.role == model::Role::norm;
      binding.parameter->value.normal_(norm ? 1 : 0, norm ? 0.1 : 0.2, generator);
    }
    forms::save(model, config.connectivity, directory_);
  }
  ~SharedModel() { std::filesystem::remove_all(directory_); }
  SharedModel(const SharedModel&) = delete;
  SharedModel& operator=(const SharedModel&) = delete;

  const std::filesystem::path& directory() const { return directory_; }

 private:
  std::filesystem::path directory_;
};

inline at::Tensor some_tokens(int64_t rows, int64_t length) {
  return (at::arange(rows * length) * 37 + 11).remainder(89).view({rows, length});
}

/// What rank r of N has where all have all tokens; `ep` of them share the experts out.
inline model::Share replicated_share(int64_t rank, int64_t size, int64_t ep, bool divided = true) {
  const model::Fraction all{rank, size};
  return {.experts = {rank / (size / ep), ep},
          .expert_width = {rank % (size / ep), size / ep},
          .tensor = all,
          .embedding = all,
          .head = all,
          .all_keys = divided,
          .whole_shared = divided};
}

}  // namespace farskip::test
