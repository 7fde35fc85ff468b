// The forms that a checkpoint is written in: what its config.json says to other programs, and which
// files of ours lie beside the weights. The weights are the same in all of them.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/model.h"

namespace farskip::forms {

enum class Form {
  hf,   ///< a model_type and class of our own, with the modeling file that computes it: who does
        ///< not run that file refuses the model
  amd,  ///< as AMD writes Instella-MoE, which its own code and ports of it read
  regular,  ///< the family's own, without FarSkip
};

/// "hf", "amd" or "regular".
Form parse_form(const std::string& text);

/// A form of one model, without its weights.
struct Description {
  nlohmann::ordered_json config;
  io::Files files;                 ///< our modeling file, or that there must be none
  std::vector<std::string> notes;  ///< what a reader of this form may get wrong, a line each
};

struct DescribeOptions {
  bool auto_map = true;  ///< amd: with our modeling file, and an auto_map that names it
};

/// `config` may have been read from any form. InputError, one line, for what the form can't say: a
/// regular connectivity in hf or amd; other models than DeepSeek-V3's and Instella-MoE, lag, and
/// fields that AMD's code ignores in amd.
Description describe(const model::ModelConfig& config, const model::Connectivity& connectivity,
                     Form form, const DescribeOptions& options = {});

/// Saves a model (see model::save_model) as training leaves it: hf, or regular if the connectivity
/// is.
void save(const model::Model& model, const model::Connectivity& connectivity,
          const std::filesystem::path& directory, model::SaveOptions options = {});

/// The modeling file: its name, its text.
inline constexpr const char* kModelingFile = "modeling_farskip.py";
extern const char kModelingSource[];

}  // namespace farskip::forms
