// The text codec of a model's own tokenizer.
#pragma once
#include <filesystem>

#include "model/config.h"
#include "train/samples.h"

namespace farskip::train {

/// Reads tokenizer.json (and what belongs to it) of a folder. InputError if there is none, or if it
/// has more tokens than the model.
TextCodec open_codec(const std::filesystem::path& directory, const model::ModelConfig& config);

}  // namespace farskip::train
